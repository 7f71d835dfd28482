"""The posture of authorization: what is told is what stands, not what was meant."""

from typing import Any

import pytest
from sqlalchemy import event

from nexusrag.infra.database import Database
from nexusrag.infra.urls import connect_arguments
from tests.support.api import Api, error_of
from tests.support.behind import audited
from tests.support.installation import Servers, serving
from tests.support.soon import soon

PATH = "/v1/ops/authz/posture"


async def posture(api: Api) -> Any:
    answer = await (await api.person()).get(PATH)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_an_installation_as_it_comes_is_strict(api: Api) -> None:
    assert await posture(api) == {
        "tenant_predicate_required": True,
        "enforcement_mode": "strict",
        "abac_enabled": True,
        "default_deny": True,
        "admin_bypass_document_acl": False,
        "wildcard_policies_allowed": False,
        "unguarded_tables": [],
    }


async def test_it_is_for_admins_and_on_record(api: Api) -> None:
    admin = await api.person()
    assert (await admin.get(PATH)).status_code == 200
    assert len(await audited(api, admin.tenant, "ops.viewed")) == 1
    assert error_of(await (await api.person("editor", admin.tenant)).get(PATH)) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.slow
async def test_settings_that_loosen_it_are_told(servers: Servers) -> None:
    loose = {"AUTHZ_ABAC_ENABLED": "false", "AUTHZ_DEFAULT_DENY": "false", "AUTHZ_ADMIN_BYPASS_DOCUMENT_ACL": "true"}
    async with serving(servers.with_env(**loose, AUTHZ_ALLOW_WILDCARDS="true")) as (app, url):
        api = Api(servers, app, url)
        told = await posture(api)
        await api.close()
    assert (told["abac_enabled"], told["default_deny"]) == (False, False)
    assert (told["admin_bypass_document_acl"], told["wildcard_policies_allowed"]) == (True, True)


@pytest.mark.slow
async def test_a_login_that_could_step_around_the_walls_is_told_and_so_are_walls_that_do_not_bind(servers: Servers) -> None:
    powerful = servers.settings.stores.database_migration_url.get_secret_value()
    async with serving(servers.with_env(DATABASE_URL=powerful)) as (app, url):
        api = Api(servers, app, url)
        told = await posture(api)
        assert (told["enforcement_mode"], told["unguarded_tables"]) == ("assumed_role", [])

        database = api.resources.get(Database)
        database._arguments = connect_arguments(powerful)

        @event.listens_for(database.engine.sync_engine, "connect")
        def stay_superuser(connection: Any, _: Any) -> None:
            connection.run_async(lambda driver: driver.execute("set role none"))

        async def mode() -> str:
            await database.dispose()  # what somebody has at this moment comes back as it was
            told.update(await posture(api))
            return str(told["enforcement_mode"])

        await soon(mode, "predicate_only", within_s=10)
        assert {"documents", "api_keys", "audit_events"} <= set(told["unguarded_tables"])
        database.tenant_criterion = False
        assert (await posture(api))["tenant_predicate_required"] is False
        await api.close()
