"""People with passwords, and the networks that they call from."""

from typing import Any

import httpx

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person

PASSWORD = "correct horse battery"


class Account:
    """Somebody who logs in with a password. `tokens` are those of the newest login or refresh."""

    def __init__(self, api: Api, email: str, tokens: dict[str, Any]) -> None:
        self.api = api
        self.email = email
        self.tokens = tokens
        self.client = api.anonymous()

    @property
    def tenant(self) -> str:
        return str(self.tokens["user"]["tenant_id"])

    @property
    def user_id(self) -> str:
        return str(self.tokens["user"]["id"])

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers=self.bearer)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.post(path, headers=self.bearer, **options)

    async def delete(self, path: str) -> httpx.Response:
        return await self.client.delete(path, headers=self.bearer)

    async def login(self, password: str = PASSWORD) -> "Account":
        """The same person on another device."""
        answer = await login(self.client, self.email, password)
        assert answer.status_code == 200, answer.text
        return Account(self.api, self.email, answer.json()["data"])

    async def refresh(self, token: str | None = None) -> httpx.Response:
        return await self.client.post("/v1/auth/refresh", json={"refresh_token": token or self.tokens["refresh_token"]})


def new_address() -> str:
    return f"{new_id('ada')}@example.org"


async def login(client: httpx.AsyncClient, email: str, password: str = PASSWORD, **fields: Any) -> httpx.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password, **fields})


async def invitation(admin: Person, email: str, **fields: Any) -> dict[str, Any]:
    """A new invitation, with its token."""
    answer = await admin.post("/v1/admin/identity/invitations", json={"email": email, **(fields or {"role": "reader"})})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


async def register(client: httpx.AsyncClient, email: str, token: str | None, password: str = PASSWORD, **fields: Any) -> httpx.Response:
    invited = {} if token is None else {"invitation_token": token}
    return await client.post("/v1/auth/register", json={"email": email, "password": password, **invited, **fields})


async def account(
    api: Api, role: str = "reader", *, admin: Person | None = None, email: str | None = None, password: str = PASSWORD
) -> Account:
    """Somebody new, in the admin's tenant or one of their own."""
    admin, email = admin or await api.person(), email or new_address()
    made = await invitation(admin, email, role=role)
    answer = await register(api.anonymous(), email, made["token"], password)
    assert answer.status_code == 201, answer.text
    return Account(api, email, answer.json()["data"])


def calling_from(api: Api, number: int) -> httpx.AsyncClient:
    """A client with a network address of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.{number // 250 + 1}.{number % 250 + 1}")
    return httpx.AsyncClient(base_url=api.base_url, transport=transport, timeout=30)
