"""What the console asks first: who is calling, what role and plan let them do, what the installation offers."""

from datetime import timedelta

from nexusrag import __version__
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Role
from nexusrag.kernel.features import Feature
from nexusrag.kernel.switches import WRITE_FREEZE, Switch
from tests.support.api import Api
from tests.support.behind import rows
from tests.support.switched import forced


async def test_everybody_learns_who_they_are_and_what_they_may_do(api: Api) -> None:
    operator, admin = await api.operator(), await api.person()
    for person, role in ((admin, Role.ADMIN), (await api.person("reader", admin.tenant), Role.READER)):
        told = (await person.get("/v1/ui/bootstrap")).json()["data"]
        principal = told["principal"]
        assert (principal["tenant_id"], principal["role"], principal["api_key_id"], principal["subject_id"]) == (
            person.tenant, role.value, person.key_id, person.user_id,
        )  # fmt: skip
        assert principal["actions"] == sorted(ACTIONS_OF[role])
        assert (principal["credential"], principal["custom_role"], principal["groups"]) == ("api_key", None, [])
        assert principal["is_operator"] is False
    assert (await operator.get("/v1/ui/bootstrap")).json()["data"]["principal"]["is_operator"] is True


async def test_plan_features_and_the_installation_are_told_apart(api: Api) -> None:
    person = await api.person("reader")
    await rows(api, "insert into tenant_plans (tenant_id, plan_id) values ($1, 'free')", person.tenant)
    await rows(
        api, "insert into feature_overrides (tenant_id, feature_key, enabled, config) values ($1, $2, true, '{\"voices\": [\"nova\"]}')",
        person.tenant, Feature.TTS.value,
    )  # fmt: skip
    told = (await person.get("/v1/ui/bootstrap")).json()["data"]
    assert told["plan"] == {"plan_id": "free", "plan_name": "Free"}
    assert told["entitlements"].keys() == {feature.value for feature in Feature}
    assert told["entitlements"][Feature.TTS.value] == {"enabled": True, "config_json": {"voices": ["nova"]}}
    assert told["entitlements"][Feature.SCIM.value] == {"enabled": False, "config_json": None}
    offered = {"audio", "runs", "uploads", "writes", "policies", "sso", "scim", "registration"}
    assert told["feature_flags"] == dict.fromkeys(offered, True)


async def test_what_operators_have_switched_off_is_not_offered(api: Api) -> None:
    person = await api.person("reader")
    for key, flag in ((Switch.TTS, "audio"), (Switch.RUN, "runs"), (Switch.INGEST, "uploads")):
        async with forced(api, key, person.tenant):
            told = (await person.get("/v1/ui/bootstrap")).json()["data"]["feature_flags"]
            assert [name for name, offered in told.items() if not offered] == [flag]
    async with forced(api, WRITE_FREEZE):
        assert (await person.get("/v1/ui/bootstrap")).json()["data"]["feature_flags"]["writes"] is False


async def test_without_limits_use_is_told_all_the_same_and_the_clock_is_the_servers(api: Api) -> None:
    person = await api.person("reader")
    told = (await person.get("/v1/ui/bootstrap")).json()["data"]
    nothing = {"limit": None, "used": 0, "remaining": None}
    assert told["quota_snapshot"] == {"day": nothing, "month": nothing, "soft_cap_reached": False, "hard_cap_mode": "enforce"}
    assert told["server_time"].endswith("Z")
    assert abs(clock.parse(told["server_time"]) - clock.now()) < timedelta(seconds=30)
    assert told["api"] == {"version": "v1", "release": __version__, "openapi_url": "/v1/openapi.json"}
