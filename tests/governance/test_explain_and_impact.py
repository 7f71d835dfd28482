"""Why somebody may do something, and what a policy would change, said by the very rules that decide."""

from typing import Any

import pytest

from tests.access.test_policies import PATH, SENSITIVE, World, new_world, policy
from tests.support.api import Api, Person, error_of


@pytest.fixture
async def world(api: Api) -> World:
    return await new_world(api)


async def explained(world: World, person: Person, document: str, action: str = "read") -> dict[str, Any]:
    """The explanation, after checking that it agrees with what happens."""
    asked = {"principal": f"user:{person.user_id}", "resource": f"document:{document}", "action": action}
    answer = await world.admin.get("/v1/admin/authz/explain", params=asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()["data"]
    if action == "read":
        assert told["allowed"] is ((await person.get(f"/v1/documents/{document}")).status_code == 200)
    return told


def outcomes(told: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in told["steps"]}


async def test_each_way_in_is_named_with_its_evidence(api: Api, world: World) -> None:
    open_corpus = await explained(world, world.reader, world.plain)
    assert (open_corpus["allowed"], open_corpus["decided_by"]) == (True, "open_corpus")
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, "Words.")
    refused = await explained(world, world.reader, document)
    assert (refused["allowed"], refused["decided_by"]) == (False, "default_deny")
    assert outcomes(refused) == {
        "person": "passes", "role": "passes", "denying_policies": "passes", "grants": "gives_nothing", "open_corpus": "gives_nothing",
        "allowing_policies": "gives_nothing", "default": "gives_nothing",
    }  # fmt: skip
    grant = {"principal_type": "user", "principal_id": world.reader.user_id, "permission": "read"}
    made = (await world.admin.post(f"/v1/admin/authz/corpora/{alone}/permissions", json=grant)).json()["data"]
    granted = await explained(world, world.reader, document)
    assert (granted["allowed"], granted["decided_by"]) == (True, "grants")
    (evidence,) = next(step for step in granted["steps"] if step["step"] == "grants")["evidence"]
    assert (evidence["permission_id"], evidence["on"]) == (made["id"], "corpus")
    owned = await explained(world, world.editor, document, "delete")
    assert (owned["allowed"], owned["decided_by"]) == (True, "grants")
    lowly = await explained(world, world.reader, document, "delete")
    assert (lowly["allowed"], lowly["decided_by"]) == (False, "role")


async def test_policies_are_shown_with_each_node_of_their_condition(world: World) -> None:
    denying = await world.write(**policy("deny", "read", SENSITIVE))
    told = await explained(world, world.reader, world.secret)
    assert told["decided_by"] == f"policy {denying['id']}"
    (evidence,) = told["steps"][-1]["evidence"]
    assert (evidence["policy_id"], evidence["applies"]) == (denying["id"], True)
    assert "high" in str(evidence["steps"]) or "eq" in str(evidence["steps"])
    allowing = await world.write(**policy("allow", "read", {"eq": [{"var": "principal.role"}, "reader"]}))
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, "Words.", metadata_json={"labels": {"sensitivity": "low"}})
    told = await explained(world, world.reader, document)
    assert told["decided_by"] == "allowing_policies"
    assert allowing["id"] in str(told["steps"])


async def test_a_revoked_key_is_refused_at_the_first_step_and_strangers_are_not_found(api: Api, world: World) -> None:
    asked = {"principal": f"api_key:{world.reader.key_id}", "resource": f"document:{world.plain}", "action": "read"}
    assert (await world.admin.get("/v1/admin/authz/explain", params=asked)).json()["data"]["allowed"] is True
    await world.admin.patch(f"/v1/admin/api-keys/{world.reader.key_id}", json={"revoke": True})
    told = (await world.admin.get("/v1/admin/authz/explain", params=asked)).json()["data"]
    assert (told["allowed"], told["decided_by"]) == (False, "person")
    stranger = await api.person("admin")
    for wrong in (
        {"principal": f"user:{stranger.user_id}"}, {"principal": f"api_key:{stranger.key_id}"}, {"principal": world.reader.user_id},
        {"resource": "document:none"}, {"resource": "corpus:none"},
    ):  # fmt: skip
        assert error_of(await world.admin.get("/v1/admin/authz/explain", params=asked | wrong)) == ("NOT_FOUND", 404), wrong
    for wrong in ({"action": "fly"}, {"resource": "planet:x"}):
        assert error_of(await world.admin.get("/v1/admin/authz/explain", params=asked | wrong)) == ("BAD_REQUEST", 400)
    assert error_of(await stranger.get("/v1/admin/authz/explain", params=asked)) == ("NOT_FOUND", 404)
    assert error_of(await world.editor.get("/v1/admin/authz/explain", params=asked)) == ("AUTH_FORBIDDEN", 403)


async def test_the_impact_of_a_policy_is_told_before_it_binds_and_is_what_then_happens(world: World) -> None:
    made = await world.write(**policy("deny", "read", SENSITIVE, enabled=False))
    told = (await world.admin.post(f"{PATH}/{made['id']}/impact")).json()["data"]
    assert (told["documents_examined"], told["people_examined"], told["people_affected"]) == (2, 3, 3)
    for one in told["people"]:
        assert (one["action"], one["gains"]["count"], one["loses"]) == ("read", 0, {"count": 1, "sample": [world.secret]})
    assert (await world.reader.get(f"/v1/documents/{world.secret}")).status_code == 200
    await world.admin.post(f"{PATH}/{made['id']}/enable")
    assert (await world.reader.get(f"/v1/documents/{world.secret}")).status_code == 404
    again = (await world.admin.post(f"{PATH}/{made['id']}/impact")).json()["data"]
    assert again["people"] == told["people"]


async def test_the_impact_names_who_gains_and_which_requests_on_record_would_be_refused(world: World) -> None:
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, "Words.")
    giving = await world.write(**policy("allow", "*", {"eq": [{"var": "principal.role"}, "reader"]}, enabled=False))
    told = (await world.admin.post(f"{PATH}/{giving['id']}/impact", json={"requests": 0})).json()["data"]
    gains = {(one["user_id"], one["action"]): one["gains"] for one in told["people"]}
    assert gains[world.reader.user_id, "read"] == {"count": 1, "sample": [document]}
    assert {user for user, _ in gains} == {world.reader.user_id}
    taking = await world.write(**policy("deny", "create", {"eq": [{"var": "resource.corpus_id"}, alone]}, enabled=False))
    told = (await world.admin.post(f"{PATH}/{taking['id']}/impact", json={"people": 0})).json()["data"]
    (changed,) = told["requests"]
    assert (changed["user_id"], changed["action"], changed["now"], changed["then"]) == (
        world.editor.user_id, "documents.create", "allowed", "refused",
    )  # fmt: skip
    assert told["requests_examined"] >= 3
    for wrong in ({"people": 10_000}, {"documents": -1}, {"all": True}):
        assert error_of(await world.admin.post(f"{PATH}/{taking['id']}/impact", json=wrong)) == ("VALIDATION_ERROR", 422)
