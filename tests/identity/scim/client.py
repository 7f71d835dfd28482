"""A provisioning client: an identity provider's side of SCIM."""

from typing import Any

import httpx

from tests.support.api import Api, Person

CORE = "urn:ietf:params:scim:schemas:core:2.0:"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
MESSAGES = "urn:ietf:params:scim:api:messages:2.0:"
TOKENS = "/v1/admin/identity/scim"
PREFIX = "/v1/scim/v2"


class Scim:
    """One tenant's client, with the admin who gave it its token."""

    def __init__(self, api: Api, admin: Person, token_id: str, token: str) -> None:
        self.admin = admin
        self.token_id = token_id
        self.token = token
        self.base = f"{api.base_url}{PREFIX}"
        self.http = api.client(token, PREFIX)

    @property
    def tenant(self) -> str:
        return self.admin.tenant

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.get(path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return await self.http.post(path, json=body, **options)

    async def put(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return await self.http.put(path, json=body, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self.http.delete(path, **options)

    async def patch(self, path: str, *operations: dict[str, Any], **options: Any) -> httpx.Response:
        return await self.http.patch(path, json={"schemas": [f"{MESSAGES}PatchOp"], "Operations": operations}, **options)

    async def user(self, user_name: str, /, **fields: Any) -> Any:
        """A new person, as the service shows them."""
        return made(await self.post("/Users", {"schemas": [f"{CORE}User"], "userName": user_name, **fields}))

    async def group(self, name: str, /, *members: str, **fields: Any) -> Any:
        """A new group."""
        inside = {"members": [{"value": user_id} for user_id in members]} if members else {}
        return made(await self.post("/Groups", {"schemas": [f"{CORE}Group"], "displayName": name, **inside, **fields}))

    async def names(self, kind: str = "Users", **query: Any) -> list[str]:
        """userName or displayName of what a list holds, in its order."""
        answer = await self.get(f"/{kind}", params=query)
        assert answer.status_code == 200, answer.text
        return [one.get("userName") or one["displayName"] for one in answer.json().get("Resources", [])]


async def provisioning(api: Api, tenant: str | None = None) -> Scim:
    """A client with a token of its own, in a new tenant unless one is named."""
    admin = await api.person(tenant=tenant)
    answer = await admin.post(f"{TOKENS}/token/create")
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    return Scim(api, admin, data["token_id"], data["token"])


def made(answer: httpx.Response) -> Any:
    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    return answer.json()


def refused(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and scimType of a refusal, after checking its form."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/scim+json"
    assert answer.headers["X-Request-Id"]
    assert body["schemas"] == [f"{MESSAGES}Error"]
    assert body["status"] == str(answer.status_code)
    assert isinstance(body["detail"], str)
    assert body.keys() <= {"schemas", "status", "scimType", "detail"}
    return answer.status_code, body.get("scimType")


def without_meta(resource: dict[str, Any]) -> dict[str, Any]:
    """What a client has written."""
    return {name: value for name, value in resource.items() if name not in ("meta", "id", "schemas")}
