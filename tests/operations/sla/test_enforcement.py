"""What a request meets: headers, warnings, degradation in its order, shedding; who is never refused; and nothing that costs a statement."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexusrag.infra.changes import Changes, announce
from nexusrag.infra.database import Database
from nexusrag.operations.sla.config import Mitigation
from nexusrag.operations.sla.decisions import CHANGED, EVERYTHING, PROBE_EVERY, Decisions
from nexusrag.operations.sla.keeper import Keeper
from nexusrag.operations.sla.stage import degrade
from nexusrag.settings import Settings
from nexusrag.web.limits import Limits
from tests.operations.sla.measured import under
from tests.support.api import Api, Event, Person, error_of, parse_events
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon
from tests.support.switched import forced

HEADERS = ("X-SLA-Status", "X-SLA-Policy-Id", "X-SLA-Decision", "X-SLA-Route-Class", "X-SLA-Window-End")


@pytest.fixture
async def told(api: Api) -> AsyncIterator[None]:
    """The process reads how tenants stand when it is told of a change alone, and writes down nothing by itself."""
    keeper = api.resources.get(Keeper)
    usual = keeper._every_s
    await keeper.close()
    keeper._every_s = 600
    keeper.start()
    yield
    await keeper.close()
    keeper._every_s = usual
    keeper.start()


async def standing(api: Api, admin: Person, status: str, decision: str, *classes: str) -> None:
    """Put the tenant's standing as a worker would have, and wait until the process knows."""
    for route_class in classes or ("run",):
        await rows(
            api,
            "insert into sla_states (tenant_id, route_class, policy_id, policy_version, status, decision, window_end) "
            "select $1, $2, policy_id, 1, $3, $4, now() from sla_assignments where tenant_id = $1 on conflict (tenant_id, route_class) "
            "do update set status = $3, decision = $4, window_end = now()",
            admin.tenant, route_class, status, decision,
        )  # fmt: skip
    async with api.resources.get(Database).work(None) as work:
        await announce(work, CHANGED, EVERYTHING)
    await known(api, admin, decision, *(classes or ("run",)))


async def known(api: Api, admin: Person, decision: str, *classes: str) -> None:
    decisions: Decisions = api.resources.get(Decisions)
    async with asyncio.timeout(5):
        while True:
            bound = decisions._bound.get(admin.tenant)
            if bound is not None and all(name in bound.stands and bound.stands[name].decision == decision for name in classes):
                return
            await asyncio.sleep(0.01)


async def asked(api: Api, admin: Person, role: str = "reader", **fields: Any) -> tuple[Any, list[Event]]:
    """A run of somebody of the tenant: answer and events."""
    corpus = await admin.corpus("tenant")
    await admin.text(corpus, "The treasure is buried under the old oak.")
    person = await api.person(role, admin.tenant)
    async with person.running(corpus, "Where is the treasure?", **fields) as answer:
        text = (await answer.aread()).decode()
    return answer, parse_events(text) if answer.status_code == 200 else []


async def test_without_a_policy_no_answer_speaks_of_one(api: Api) -> None:
    answer = await (await api.person()).get("/v1/corpora")
    assert not [name for name in answer.headers if name.startswith("x-sla")]


async def test_every_answer_under_a_policy_says_how_it_stands(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"run": 1000, "read": 1000}})
    await standing(api, admin, "healthy", "allow", "read")
    answer = await admin.get("/v1/corpora")
    assert [answer.headers[name] for name in HEADERS[:1] + HEADERS[2:4]] == ["healthy", "allow", "read"]
    assert answer.headers["X-SLA-Policy-Id"].startswith("sla_")
    assert answer.headers["X-SLA-Window-End"].endswith("Z")


async def test_a_refusal_under_a_policy_says_how_it_stands_too(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000, "mutation": 1000}})
    await standing(api, admin, "warning", "warn", "read", "mutation")
    reader = await api.person("reader", admin.tenant)
    for due, answer in (
        (("NOT_FOUND", 404), await admin.get("/v1/corpora/none")),
        (("VALIDATION_ERROR", 422), await admin.post("/v1/corpora", json={})),
        (("AUTH_FORBIDDEN", 403), await reader.post("/v1/corpora", json={"name": "Mine"})),
    ):
        assert error_of(answer) == due
        assert [answer.headers[name] for name in HEADERS[:1] + HEADERS[2:3]] == ["warning", "warn"]
        assert "X-Quota-Day-Used" not in answer.headers
    alias = await admin.get("/documents/none")
    assert (alias.status_code, alias.headers["X-SLA-Decision"], alias.headers["Deprecation"]) == (404, "warn", "true")
    key = {"Idempotency-Key": "once"}
    first, again = [await admin.post("/v1/corpora", json={"name": "Mine"}, headers=key) for _ in range(2)]
    assert [answer.headers["X-SLA-Decision"] for answer in (first, again)] == ["warn", "warn"]
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_a_warning_goes_on_with_headers_and_an_event(api: Api) -> None:
    admin = await under(api)
    await standing(api, admin, "warning", "warn")
    answer, events = await asked(api, admin)
    assert [answer.headers[name] for name in ("X-SLA-Status", "X-SLA-Decision", "X-SLA-Route-Class")] == ["warning", "warn", "run"]
    assert [event.type for event in events[:2]] == ["request.accepted", "sla.warn"]
    assert events[1].data["data"]["policy_id"] == answer.headers["X-SLA-Policy-Id"]
    assert events[-1].type == "done"


async def test_a_degraded_run_is_told_what_it_lost_in_order(api: Api) -> None:
    admin = await under(api, reduce_top_k_floor=1, cap_output_tokens=64, disable_tts_first=True)
    await standing(api, admin, "breached", "degrade")
    answer, events = await asked(api, admin, audio=True, top_k=10)
    assert answer.headers["X-SLA-Decision"] == "degrade"
    (told,) = [event for event in events if event.type == "sla.degrade.applied"]
    assert told.data["data"]["applied"] == ["disable_audio", "reduce_top_k", "cap_output_tokens", "provider_fallback"]
    assert not [event for event in events if event.type == "audio.ready"]
    (final,) = [event for event in events if event.type == "message.final"]
    assert len(final.data["data"]["citations"]) <= 1


def test_a_degradation_never_gives_back_and_falls_back_on_the_settings(api: Api) -> None:
    class Call:
        limits = Limits(top_k=2)

    settings = api.resources.get(Settings).sla
    assert degrade(Call(), Mitigation(), settings) == ["disable_audio", "reduce_top_k", "cap_output_tokens"]  # type: ignore[arg-type]
    assert Call.limits == Limits(top_k=2, max_output_tokens=512, audio=False, local_only=False)
    kept = Mitigation(disable_tts_first=False, reduce_top_k_floor=9, provider_fallback_order=["local_pgvector"])
    assert "disable_audio" not in degrade(Call(), kept, settings)  # type: ignore[arg-type]
    assert Call.limits == Limits(top_k=2, max_output_tokens=512, audio=False, local_only=True)


async def test_what_is_shed_is_refused_with_its_reason_and_when_to_return(api: Api) -> None:
    admin = await under(api)
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed")
    body = {"session_id": "s", "corpus_id": "c", "message": "Where?"}
    answer = await reader.post("/v1/run", json=body)
    assert error_of(answer) == ("SLA_SHED_LOAD", 503)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["X-SLA-Decision"] == "shed"
    assert answer.json()["error"]["details"]["policy_id"] == answer.headers["X-SLA-Policy-Id"]
    streamed = await reader.post("/v1/run", json=body, headers={"Accept": "text/event-stream"})
    assert (streamed.status_code, streamed.headers["Content-Type"]) == (503, "text/event-stream; charset=utf-8")
    assert [event.type for event in parse_events(streamed.text)] == ["sla.shed", "error", "done"]


async def test_of_what_is_shed_one_in_some_is_let_through_so_that_recovery_shows(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    answers = [(await reader.get("/v1/corpora")).status_code for _ in range(2 * PROBE_EVERY)]
    assert (answers.count(503), answers.count(200)) == (2 * PROBE_EVERY - 2, 2)
    assert answers[0] == 503


async def test_admins_and_routes_of_operations_are_never_shed(api: Api) -> None:
    everything = {"p95_ms_max": {"run": 1, "mutation": 1, "read": 1, "ops": 1}}
    admin = await under(api, objectives=everything)
    await standing(api, admin, "breached", "shed", "run", "mutation", "read", "ops")
    for _ in range(PROBE_EVERY):
        answer = await admin.get("/v1/corpora")
        assert (answer.status_code, answer.headers["X-SLA-Decision"]) == (200, "degrade")
        assert (await admin.get("/v1/ops/health")).status_code == 200
    answer, _ = await asked(api, admin, role="admin")
    assert answer.status_code == 200


@pytest.mark.parametrize("mode", ["observe", "warn"])
async def test_other_tenants_and_other_classes_are_left_alone(api: Api, mode: str) -> None:
    shed, other = await under(api), await under(api, mode=mode)
    await standing(api, shed, "breached", "shed")
    reader = await api.person("reader", shed.tenant)
    assert (await reader.get("/v1/corpora")).status_code == 200
    assert (await other.get("/v1/corpora")).status_code == 200


@pytest.mark.usefixtures("told")
async def test_a_policy_that_is_disabled_binds_nobody_within_a_second(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    policy = (await reader.get("/v1/corpora")).headers["X-SLA-Policy-Id"]
    await admin.post(f"/v1/admin/sla/policies/{policy}/disable")

    async def bound() -> bool:
        """Not the status: one in some is let through."""
        return "X-SLA-Policy-Id" in (await reader.get("/v1/corpora")).headers

    await soon(bound, False)


async def test_what_nobody_judges_any_more_binds_nobody(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    await rows(api, "update sla_states set window_end = now() - interval '1 hour' where tenant_id = $1", admin.tenant)
    await api.resources.get(Decisions).refresh()
    answer = await reader.get("/v1/corpora")
    assert (answer.status_code, answer.headers["X-SLA-Decision"]) == (200, "allow")


async def test_without_a_database_to_hear_from_nobody_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    assert (await reader.get("/v1/corpora")).status_code == 503
    monkeypatch.setattr(api.resources.get(Changes), "live", False)  # as when the listening connection is lost
    assert (await reader.get("/v1/corpora")).status_code == 200


async def test_an_operator_sheds_by_hand_without_any_policy(api: Api) -> None:
    admin, operator = await api.person(), await api.operator()
    reader, stranger = await api.person("reader", admin.tenant), await api.person("reader")
    flag = {"params": {"route_class": "read", "tenant_id": admin.tenant}}
    await operator.post("/v1/admin/ops/actions/enable-shed", **flag, headers={"Idempotency-Key": admin.tenant})
    await reader.soon("/v1/corpora", 503)
    answer = await reader.get("/v1/corpora")
    assert (answer.headers["X-SLA-Policy-Id"], answer.headers["X-SLA-Status"]) == ("forced", "breached")
    assert (await stranger.get("/v1/corpora")).status_code == 200
    assert (await admin.get("/v1/corpora")).status_code == 200
    flag["params"]["lift"] = "true"
    await operator.post("/v1/admin/ops/actions/enable-shed", **flag, headers={"Idempotency-Key": f"{admin.tenant}-lift"})
    await reader.soon("/v1/corpora", 200)


@pytest.mark.slow
async def test_an_operator_sheds_by_hand_where_service_levels_are_switched_off(servers: Servers) -> None:
    async with serving(servers.with_env(SLA_ENGINE_ENABLED="false")) as (app, url):
        api = Api(servers, app, url)
        reader = await api.person("reader")
        async with forced(api, "shed.read", reader.tenant):
            assert error_of(await reader.get("/v1/corpora")) == ("SLA_SHED_LOAD", 503)
        assert (await reader.get("/v1/corpora")).status_code == 200
        await api.close()


@pytest.mark.usefixtures("told")
async def test_what_was_done_to_requests_is_on_record_once_with_their_number(api: Api) -> None:
    admin = await under(api, objectives={"p95_ms_max": {"read": 1000}})
    reader = await api.person("reader", admin.tenant)
    await standing(api, admin, "breached", "shed", "read")
    for _ in range(5):
        await reader.get("/v1/corpora")
    await api.resources.get(Keeper).flush()
    await reader.get("/v1/corpora")
    await api.resources.get(Keeper).flush()
    (event,) = await audited(api, admin.tenant, "sla.enforcement.shed")
    assert '"requests": 5' in event["metadata"]
