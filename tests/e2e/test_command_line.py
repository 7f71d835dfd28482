"""The command line on a machine of its own: what a newcomer types, and what an operator types beside a running `up`."""

import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from reportlab.pdfgen import canvas  # type: ignore[import-untyped]

from nexusrag.cli.demo import QUESTION
from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.infra.migrate import head
from nexusrag.settings.stores import StoreSettings
from tests.e2e.commands import Done, Home, Up, new_home
from tests.support.api import Person, error_of
from tests.support.installation import http
from tests.support.processes import free_port, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EMBEDDING_PROCESS = "nexusrag.providers.embeddings.local.server"
CITED = re.compile(r"\[1\] (\S+), (?:page (\d+), )?characters \d+–\d+, score \d\.\d\d")
CORPUS = "lighthouse"
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with new_home() as made:
        yield made


@pytest.fixture(scope="module")
async def first(home: Home) -> Done:
    """The newcomer's first start: from nothing to an answer."""
    return await home.run("up", "--port", str(free_port()), "--once", within_s=200)


@pytest.fixture(scope="module")
async def up(home: Home, first: Done) -> AsyncIterator[Up]:
    async with home.up() as running:
        yield running


@pytest.fixture(scope="module")
async def admin(up: Up) -> AsyncIterator[Person]:
    """The first admin, whose key `up` keeps in the home."""
    key = (up.home.path / "admin-key").read_text().strip()
    async with http(up.url, key) as client:
        yield Person(client, {"tenant_id": "t1", "user_id": "", "key_id": "", "api_key": key})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good text, a good PDF and one that broke off."""
    folder = tmp_path / "island"
    folder.mkdir()
    (folder / "keeper.md").write_text("# The keeper\n\nThe lighthouse keeper is called Ada Moreau. She came to the island in 1931.\n")
    page = canvas.Canvas(str(folder / "horn.pdf"))
    page.drawString(72, 720, "The fog horn of the island was built by Tobias Lund in 1902.")
    page.showPage()
    page.save()
    (folder / "broken.pdf").write_bytes((folder / "horn.pdf").read_bytes()[:200])
    return folder


# --- from nothing ---------------------------------------------------------------------------------------------------


async def test_up_once_answers_with_citations_and_leaves_nothing_running(home: Home, first: Done) -> None:
    left = home.processes()
    assert first.code == 0, first.output + first.errors
    assert QUESTION in first.output
    assert "all tests green on two consecutive nightly runs" in first.output
    assert CITED.search(first.output)
    assert first.errors == ""
    # The embedding process waits some seconds for somebody to come back; nothing else may.
    assert [line for line in left.values() if EMBEDDING_PROCESS not in line] == []

    async def none_left() -> bool:
        return not home.processes()

    await until(none_left, 10, 0.1)


async def test_a_second_start_keeps_the_data_and_says_how_to_ask(up: Up, admin: Person) -> None:
    assert "demo corpus c1 is there" in up.output
    assert f"export API_KEY={admin.key}" in up.output
    assert f"{up.url}/v1/run" in up.output
    documents = (await admin.get("/v1/documents?corpus_id=c1")).json()["data"]
    assert {document["id"] for document in documents} == {"demo-operations-handbook", "demo-release-process", "demo-testing-strategy"}


async def test_a_second_up_on_the_same_home_is_refused(up: Up, admin: Person) -> None:
    refused = await up.home.run("up", "--port", str(free_port()), "--no-demo")
    assert refused.code == 1
    (line,) = refused.errors.splitlines()
    assert f"is running on {up.home.path} already (process {up.process.pid})" in line
    assert (await admin.get("/v1/corpora")).status_code == 200


async def test_a_port_that_is_taken_is_told_at_once(up: Up) -> None:
    port = up.url.rpartition(":")[2]
    with new_home() as other:
        for refused in (await other.run("up", "--port", port, "--no-demo"), await other.run("up", "--no-demo", API_PORT=port)):
            assert refused.code == 2
            assert refused.errors == f"--port: 127.0.0.1:{port} cannot be listened on (Address already in use); choose another.\n"
        assert other.processes() == {}


# --- keys and corpora -----------------------------------------------------------------------------------------------


async def test_a_key_is_made_listed_and_revoked_beside_a_running_up(up: Up) -> None:
    made = await up.home.run("keys", "create", "--tenant", "t2", "--role", "editor", "--name", "laptop", "--json")
    assert made.code == 0, made.errors
    key = made.json
    assert set(key) == {"key_id", "api_key", "user_id", "tenant_id", "role"}
    assert (key["tenant_id"], key["role"]) == ("t2", "editor")
    listed = await up.home.run("keys", "list", "--tenant", "t2")
    (line,) = listed.output.splitlines()
    assert key["key_id"] in line
    assert "active" in line
    assert key["api_key"] not in listed.output

    async with http(up.url, key["api_key"]) as client:
        assert (await client.get("/v1/corpora")).status_code == 200  # now every cache knows it
        revoked = await up.home.run("keys", "revoke", key["key_id"])
        assert (revoked.code, revoked.output) == (0, "Revoked.\n")

        async def refused() -> bool:
            return (await client.get("/v1/corpora")).status_code == 401

        await until(refused, 5)
        assert error_of(await client.get("/v1/corpora")) == ("AUTH_REVOKED_KEY", 401)
    listed = await up.home.run("keys", "list", "--tenant", "t2", "--json")
    assert [item["revoked_at"] is None for item in listed.json["items"]] == [False]
    everyones = await up.home.run("keys", "list", "--json")
    assert {"t1", "t2"} <= {item["tenant_id"] for item in everyones.json["items"]}


async def test_the_applications_login_revokes_a_key_of_a_tenant_that_is_named(up: Up) -> None:
    names = ("AUTH_KEY_PEPPER", "AUTH_JWT_SECRET", "UI_CURSOR_SECRET", "CRYPTO_LOCAL_MASTER_KEY")
    env = {name: secrets.token_hex(32) for name in names}
    env["DATABASE_URL"] = EmbeddedPostgres(up.home.path, StoreSettings()).url("login")
    made = await up.home.run("keys", "create", "--tenant", "t4", "--role", "reader", "--name", "x", "--json")
    blind = await up.home.run("keys", "revoke", made.json["key_id"], **env)
    assert (blind.code, blind.errors) == (2, "This database login sees one tenant at a time: name it with --tenant.\n")
    for tenant, answer in (("t1", (1, "There is no key with this id.\n")), ("t4", (0, "Revoked.\n"))):
        done = await up.home.run("keys", "revoke", made.json["key_id"], "--tenant", tenant, **env)
        assert (done.code, done.output) == answer, done.errors


async def test_revoking_what_is_not_there_fails(up: Up) -> None:
    answer = await up.home.run("keys", "revoke", "key_none")
    assert (answer.code, answer.output) == (1, "There is no key with this id.\n")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("keys", "create", "--tenant", "t2", "--role", "emperor", "--name", "x"), "--role"),
        (("keys", "create", "--tenant", "Not A Tenant", "--role", "admin", "--name", "x"), "tenant id"),
        (("corpora", "create", "--tenant", "t1", "--id", "../x"), "--id"),
        (("corpora", "create", "--tenant", "t1", "--id", "x", "--visibility", "public"), "--visibility"),
        (("corpora", "create", "--tenant", "nobody", "--id", "x"), "nobody"),
        (("users", "list", "--tenant", "nobody"), "nobody"),
        (("users", "role", "usr_1", "emperor", "--tenant", "t1"), "emperor"),
        (("tenants", "create", "Not A Tenant"), "tenant id"),
        (("tenants", "suspend", "nobody"), "nobody"),
        (("plans", "set", "nobody", "pro"), "nobody"),
        (("plans", "set", "t1", "platinum"), "platinum"),
        (("plans", "feature", "t1", "feature.teleport", "on"), "feature.teleport"),
        (("plans", "list", "--tenant", "nobody"), "nobody"),
    ],
)
async def test_a_wrong_word_is_told_in_one_line(up: Up, arguments: tuple[str, ...], word: str) -> None:
    refused = await up.home.run(*arguments)
    assert refused.code == 2
    (line,) = refused.errors.splitlines()
    assert word in line
    assert refused.output == ""


async def test_a_plan_is_set_and_a_feature_switched_beside_a_running_up(up: Up) -> None:
    async with up.person("admin", "t5") as admin:

        async def sees_operations(status: int) -> None:
            async def it_is() -> bool:
                return (await admin.get("/v1/ops/metrics")).status_code == status

            await until(it_is, 5)

        await sees_operations(403)
        for arguments, output, status in (
            (("set", "t5", "pro"), "t5 has the plan pro.\n", 200),
            (("feature", "t5", "feature.ops_admin_access", "off"), "t5: feature.ops_admin_access is off.\n", 403),
            (("feature", "t5", "feature.ops_admin_access", "default"), "t5: feature.ops_admin_access is as its plan has it.\n", 200),
        ):
            done = await up.home.run("plans", *arguments)
            assert (done.code, done.output) == (0, output), done.errors
            await sees_operations(status)
    held = (await up.home.run("plans", "list", "--tenant", "t5", "--json")).json
    assert (held["plan_id"], held["features"]["feature.tts"], held["overridden"]) == ("pro", True, [])
    shown = await up.home.run("plans", "list", "--tenant", "t1")
    assert shown.output.splitlines()[0] == "t1: enterprise"
    assert (await up.home.run("plans", "list")).output.splitlines()[0].split() == ["free", "pro", "enterprise"]


async def test_people_and_tenants_are_managed_beside_a_running_up(up: Up) -> None:
    async with up.person("admin", "t6") as person:

        async def meets(path: str, status: int) -> None:
            async def it_does() -> bool:
                return (await person.get(path)).status_code == status

            await until(it_does, 5)

        for arguments, output, path, status in (
            (("users", "role", person.user_id, "reader", "--tenant", "t6"), f"{person.user_id} has the role reader.\n", "users", 403),
            (("users", "role", person.user_id, "admin", "--tenant", "t6"), f"{person.user_id} has the role admin.\n", "users", 200),
            (("users", "disable", person.user_id, "--tenant", "t6"), f"{person.user_id} is disabled.\n", "users", 401),
            (("users", "enable", person.user_id, "--tenant", "t6"), f"{person.user_id} is active.\n", "users", 200),
            (("tenants", "suspend", "t6"), "tenant t6 is suspended.\n", "users", 401),
            (("tenants", "activate", "t6"), "tenant t6 is active.\n", "users", 200),
        ):
            done = await up.home.run(*arguments)
            assert (done.code, done.output) == (0, output), done.errors
            await meets(f"/v1/admin/identity/{path}", status)
        (line,) = (await up.home.run("users", "list", "--tenant", "t6")).output.splitlines()
        assert line.split() == [person.user_id, "admin", "active", "somebody"]
        gone = await up.home.run("users", "disable", "usr_nobody", "--tenant", "t6")
        assert (gone.code, gone.output) == (1, "There is no user with this id.\n")
    assert (await up.home.run("tenants", "create", "t7", "--name", "Seven")).output == "tenant t7 (made)\n"
    assert (await up.home.run("tenants", "create", "t7")).output == "tenant t7 (was there)\n"
    listed = {one["id"]: one for one in (await up.home.run("tenants", "list", "--json")).json["items"]}
    assert (listed["t7"]["name"], listed["t1"]["is_home"], listed["t7"]["is_home"]) == ("Seven", True, False)


async def test_a_key_is_rotated_beside_a_running_up(up: Up) -> None:
    async with up.person("editor", "t8") as person:
        kept = await up.home.run("keys", "rotate", person.key_id, "--keep-old-active", "--json")
        assert kept.code == 0, kept.errors
        assert (await person.get("/v1/corpora")).status_code == 200
        replaced = await up.home.run("keys", "rotate", kept.json["key_id"])
        assert "works no more" in replaced.output
        again = await up.home.run("keys", "rotate", kept.json["key_id"])
        assert (again.code, again.output) == (2, "")
        async with http(up.url, kept.json["api_key"]) as client:
            assert error_of(await client.get("/v1/corpora")) == ("AUTH_EXPIRED_KEY", 401)
    assert (await up.home.run("keys", "rotate", "key_none")).code == 1
    listed = (await up.home.run("keys", "list", "--tenant", "t8")).output
    assert len(listed.splitlines()) == 3
    assert replaced.output.split("api_key")[1].split()[0] not in listed
    assert (await up.home.run("keys", "list", "--tenant", "t8", "--inactive-only")).output == "No keys.\n"


async def test_the_scripts_of_earlier_releases_do_what_the_commands_do(up: Up) -> None:
    async def script(name: str, *arguments: str) -> Done:
        return await up.home.run(*arguments, command=(sys.executable, str(SCRIPTS / f"{name}.py")))

    made = await script("create_api_key", "--tenant", "t3", "--role", "reader", "--name", "old hand", "--json")
    assert (made.code, made.json["tenant_id"]) == (0, "t3"), made.errors
    assert made.json["key_id"] in (await script("list_api_keys", "--tenant", "t3")).output
    assert (await script("revoke_api_key", made.json["key_id"])).output == "Revoked.\n"
    assert (await script("seed_demo")).output == "already seeded\n"
    smoke = await script("provider_smoke", "--tenant", "t1", "--corpus", "c1", "--query", "How fast is a rollback?")
    assert "passages, exact, complete" in smoke.output, smoke.errors


async def test_migrating_beside_a_running_up_changes_nothing(up: Up, admin: Person) -> None:
    done = await up.home.run("migrate")
    assert (done.code, done.output) == (0, f"The database is at revision {head()}.\n"), done.errors
    assert (await admin.get("/v1/corpora")).status_code == 200


async def test_a_corpus_is_made_once(up: Up, admin: Person) -> None:
    arguments = ("corpora", "create", "--tenant", "t1", "--id", "twice", "--name", "Twice", "--json")
    made, again = await up.home.run(*arguments), await up.home.run(*arguments)
    assert made.json == {"id": "twice", "tenant_id": "t1", "name": "Twice", "visibility": "restricted", "created": True}
    assert again.json == {**made.json, "created": False}
    assert (await admin.get("/v1/corpora/twice")).json()["data"]["name"] == "Twice"


# --- a folder, and questions to it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def corpus(up: Up) -> str:
    made = await up.home.run("corpora", "create", "--tenant", "t1", "--id", CORPUS, "--visibility", "tenant", "--json")
    assert made.code == 0, made.errors
    return CORPUS


async def test_a_folder_is_ingested_and_what_failed_is_told(up: Up, admin: Person, corpus: str, folder: Path) -> None:
    arguments = ("ingest", str(folder), "--corpus", corpus)
    done = await up.home.run(*arguments)
    assert done.code == 1, done.errors
    assert "2 of 3 files are searchable, 2 chunks." in done.output
    # The table has one row: the path, and a reason that a person can act on.
    table = done.output.partition("why it failed")[2]
    rows = [line for line in table.splitlines() if line.count("│") >= 2]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].split("│") if cell.strip()]
    assert cells[0] == str(folder / "broken.pdf")
    assert "PDF" in cells[1]

    before = await of(admin, corpus)
    assert {document["filename"]: document["status"] for document in before} == {
        "keeper.md": "succeeded",
        "horn.pdf": "succeeded",
        "broken.pdf": "failed",
    }
    (folder / "keeper.md").write_text("# The keeper\n\nThe lighthouse keeper is called Bruno Vance. He came to the island in 1958.\n")
    again = await up.home.run(*arguments)
    assert again.code == 1
    after = await of(admin, corpus)
    assert sorted(document["id"] for document in after) == sorted(document["id"] for document in before)
    texts = [passage["text"] for passage in await admin.search(corpus, "Who is the lighthouse keeper?", top_k=50)]
    assert len(texts) == 2
    assert not any("Ada Moreau" in text for text in texts)

    (folder / "broken.pdf").unlink()
    assert (await up.home.run(*arguments)).code == 0


async def of(person: Person, corpus: str) -> list[dict[str, str]]:
    """The documents of a corpus."""
    documents: list[dict[str, str]] = (await person.get(f"/v1/documents?corpus_id={corpus}")).json()["data"]
    return documents


async def test_questions_get_answers_with_the_place_they_come_from(up: Up, corpus: str, folder: Path) -> None:
    (folder / "broken.pdf").unlink()
    assert (await up.home.run("ingest", str(folder / "keeper.md"), str(folder / "horn.pdf"), "--corpus", corpus)).code == 0
    asked = await up.home.run("ask", "Who built the fog horn?", "--corpus", corpus)
    assert asked.code == 0, asked.errors
    answer = asked.output.splitlines()[0]
    assert "Tobias Lund" in answer
    assert "[1]" in answer
    cited = CITED.search(asked.output)
    assert cited is not None
    assert cited.groups() == ("horn.pdf", "1")
    assert "“The fog horn of the island was built by Tobias Lund in 1902.”" in asked.output


async def test_a_question_without_a_corpus_or_an_api_fails_with_a_reason(up: Up) -> None:
    unknown = await up.home.run("ask", "Who?", "--corpus", "none", "--url", up.url)
    assert unknown.code == 1
    assert "NOT_FOUND" in unknown.output
    away = await up.home.run("ask", "Who?", "--corpus", CORPUS, "--url", f"http://127.0.0.1:{free_port()}")
    assert away.code == 1
    assert "does not answer" in away.output
    assert "Traceback" not in unknown.errors + away.errors


async def test_smoke_shows_what_retrieval_finds(up: Up) -> None:
    found = await up.home.run("smoke", "--tenant", "t1", "--corpus", "c1", "--query", "How fast is a rollback?", "--top-k", "3")
    assert found.code == 0, found.errors
    assert "3 passages, exact, complete" in found.output
    assert "demo-release-process" in found.output
    missing = await up.home.run("smoke", "--tenant", "t1", "--corpus", "none", "--query", "x")
    assert missing.code == 1
    assert "NOT_FOUND" in missing.output


async def test_doctor_finds_nothing_wrong(up: Up) -> None:
    seen = await up.home.run("doctor")
    assert seen.code == 0, seen.output
    assert all(line.startswith("ok ") for line in seen.output.splitlines())
    assert "Redis answers" in seen.output
    assert "sign of a worker" in seen.output


async def test_doctor_counts_the_faults_of_wrong_settings(up: Up) -> None:
    seen = await up.home.run("doctor", API_PORT="many", LLM_PROVIDER="oracle")
    assert seen.code == 2
    faults = [line for line in seen.output.splitlines() if line.startswith("FAULT")]
    assert ["API_PORT" in line or "LLM_PROVIDER" in line for line in faults] == [True, True]


# --- the end --------------------------------------------------------------------------------------------------------


async def test_ctrl_c_stops_everything(up: Up) -> None:
    there = up.home.processes().values()
    for part in (
        "nexusrag.cli.main up",
        "nexusrag.cli.main api",
        "nexusrag.cli.main worker",
        "postgres",
        "redis-server",
        EMBEDDING_PROCESS,
    ):
        assert any(part in line for line in there), part
    assert await up.stop(signal.SIGINT) == 0, up.output
    assert not (up.home.path / "run" / "address").exists()
    left = [line for line in up.home.processes().values() if EMBEDDING_PROCESS not in line]
    assert left == []

    async def none_left() -> bool:
        return not up.home.processes()

    await until(none_left, 10, 0.1)
