"""Whatever answers with a secret names it in its gate, so that no store of answers ever holds one."""

from fastapi import FastAPI

from nexusrag.app import create_app
from nexusrag.web.route import GatedRoute
from tests.support.installation import Servers

SECRETS = {"api_key", "token", "secret", "access_token", "refresh_token", "session_token", "password"}


def secrets_of(app: FastAPI, route: GatedRoute) -> set[str]:
    """The secrets that an answer of the route has, by the document of the API."""
    document = app.openapi()
    (method,) = route.methods
    for status, answer in document["paths"][route.path_format][method.lower()]["responses"].items():
        shape = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if status.startswith("2") and "$ref" in shape:
            data = document["components"]["schemas"][shape["$ref"].rpartition("/")[2]]["properties"].get("data", {})
            if "$ref" in data:
                return SECRETS & document["components"]["schemas"][data["$ref"].rpartition("/")[2]]["properties"].keys()
    return set()


def test_no_answer_with_a_secret_is_stored_with_it(servers: Servers) -> None:
    app = create_app(servers.settings)
    routes = [route for route in app.routes if isinstance(route, GatedRoute) and route.include_in_schema]
    telling = {route.path_format: (route.gate, secrets) for route in routes if (secrets := secrets_of(app, route))}
    assert len(telling) >= 8, "registration, login, refresh, keys, their rotation, invitations, SCIM tokens, single sign-on"
    for path, (gate, secrets) in telling.items():
        assert not gate.idempotent or secrets == {gate.shown_once}, path
