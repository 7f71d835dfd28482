"""Billing webhooks: signed over exactly what is sent, in the end delivered or on record, and never in a request's way."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexusrag.billing.webhooks.facade import tell
from nexusrag.infra.database import Database
from nexusrag.infra.integrations import Integrations
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.switches import Switch
from nexusrag.settings import SettingsError, load
from tests.billing.receiver import Received, Receiver, receiving
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving, working
from tests.support.processes import free_port, until
from tests.support.switched import forced

PATH = "/v1/self-serve/billing/webhook-test"
SECRET = "a secret of some length"
QUEUE = "webhooks"


def enabled(url: str, **more: str) -> dict[str, str]:
    given = {"BILLING_WEBHOOK_ENABLED": "true", "BILLING_WEBHOOK_URL": url, "BILLING_WEBHOOK_SECRET": SECRET}
    return {**given, "INGEST_QUEUE_NAME": QUEUE, **more}


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
async def served(servers: Servers, receiver: Receiver) -> AsyncIterator[Api]:
    """An API whose events go to the receiver, without a worker."""
    async with serving(servers.with_env(**enabled(receiver.url))) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


@pytest.fixture
async def hooked(served: Api, receiver: Receiver) -> AsyncIterator[Api]:
    receiver.answers.clear()
    yield served
    await served.resources.get(Integrations).reset("billing.webhook")


def check(one: Received, event: str, tenant: str) -> dict[str, Any]:
    """What a receiver checks, written as its author would: over the bytes that came, with the secret."""
    assert one.headers["x-billing-signature"] == hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()
    assert (one.headers["x-billing-event"], one.headers["content-type"]) == (event, "application/json")
    told = one.json
    assert (told["event"], told["tenant_id"], told["delivery_id"]) == (event, tenant, one.headers["x-billing-delivery"])
    assert int(one.headers["x-billing-timestamp"]) == int(datetime.fromisoformat(told["sent_at"]).timestamp())
    assert abs(datetime.fromisoformat(told["sent_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    return told


async def test_a_test_event_arrives_signed_and_is_on_record(hooked: Api, receiver: Receiver) -> None:
    person = await hooked.person()
    answer = await person.post(PATH)
    data = answer.json()["data"]
    assert (answer.status_code, data["sent"], data["status_code"]) == (200, True, 204)
    (one,) = receiver.of(person.tenant)
    told = check(one, "billing.webhook.test", person.tenant)
    assert (told["delivery_id"], told["data"]) == (data["delivery_id"], {"test": True})
    for event in ("selfserve.billing_webhook_tested", "billing.webhook.test"):
        (row,) = await audited(hooked, person.tenant, event)
        assert '"sent": true' in row["metadata"] and data["delivery_id"] in row["metadata"]
        assert SECRET not in str(row)


@pytest.mark.parametrize("status", [500, 400, 302, 410])
async def test_a_refusal_is_told_as_it_came(hooked: Api, receiver: Receiver, status: int) -> None:
    receiver.answers.append(status)
    person = await hooked.person()
    data = (await person.post(PATH)).json()["data"]
    assert (data["sent"], data["status_code"], data["message"]) == (False, status, f"The webhook answered {status}.")
    assert len(receiver.of(person.tenant)) == 1  # no redirect is followed, nothing is sent twice


async def test_a_test_that_is_sent_again_is_sent_once(hooked: Api, receiver: Receiver) -> None:
    person, headers = await hooked.person(), {"Idempotency-Key": new_id("k")}
    first, again = await person.post(PATH, headers=headers), await person.post(PATH, headers=headers)
    assert (again.content, len(receiver.of(person.tenant))) == (first.content, 1)


async def test_nobody_at_home_is_an_answer_and_no_failure(servers: Servers) -> None:
    async with serving(servers.with_env(**enabled(f"http://127.0.0.1:{free_port()}/hook"))) as (app, url):
        api = Api(servers, app, url)
        data = (await (await api.person()).post(PATH)).json()["data"]
        assert (data["sent"], data["status_code"]) == (False, None)
        await api.resources.get(Integrations).reset("billing.webhook")
        await api.close()


async def test_an_address_inside_is_not_called_unless_operators_allow_it(servers: Servers, receiver: Receiver) -> None:
    async with serving(servers.with_env(**enabled(receiver.url, OUTBOUND_ALLOWED_NETWORKS="192.0.2.0/24"))) as (app, url):
        api = Api(servers, app, url)
        person = await api.person()
        data = (await person.post(PATH)).json()["data"]
        assert (data["sent"], data["status_code"], "not public" in data["message"]) == (False, None, True)
        assert receiver.of(person.tenant) == []
        await api.close()


async def test_without_a_webhook_there_is_nothing_to_test(api: Api) -> None:
    assert error_of(await (await api.person()).post(PATH)) == ("BILLING_WEBHOOK_NOT_CONFIGURED", 400)


async def test_who_may_test_is_an_admin_whose_plan_has_it(hooked: Api) -> None:
    person = await hooked.person()
    assert error_of(await (await hooked.person("editor", person.tenant)).post(PATH)) == ("AUTH_FORBIDDEN", 403)
    await rows(
        hooked, "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, 'feature.billing_webhook_test', false)",
        person.tenant,
    )  # fmt: skip
    assert error_of(await person.post(PATH)) == ("FEATURE_NOT_ENABLED", 403)


async def told(api: Api, tenant: str, event: str = "quota.soft_cap_reached", **data: Any) -> dict[str, Any]:
    """Tell of an event as a domain does; the job."""
    async with api.resources.get(Database).work(tenant) as work:
        await tell(api.resources, work, event, data)
    return await job(api, tenant)


async def job(api: Api, tenant: str) -> dict[str, Any]:
    (found,) = await rows(api, "select * from jobs where tenant_id = $1 and kind = 'billing.webhook'", tenant)
    return found


async def ended(api: Api, tenant: str, *, hurry: bool = False) -> str:
    """The state of its job, once it is done; `hurry`: without the pauses between its attempts."""

    async def over() -> str | None:
        if hurry:
            await rows(api, "update jobs set run_at = now() where tenant_id = $1 and state = 'queued'", tenant)
        state: str = (await job(api, tenant))["state"]
        return state if state in ("succeeded", "failed") else None

    return await until(over, 30) or ""


async def test_what_is_told_commits_with_its_cause(hooked: Api) -> None:
    person = await hooked.person()
    with pytest.raises(ZeroDivisionError):
        async with hooked.resources.get(Database).work(person.tenant) as work:
            await tell(hooked.resources, work, "quota.soft_cap_reached", {})
            raise ZeroDivisionError
    assert await rows(hooked, "select 1 from jobs where tenant_id = $1", person.tenant) == []


async def test_without_a_webhook_nothing_is_queued(api: Api) -> None:
    person = await api.person()
    async with api.resources.get(Database).work(person.tenant) as work:
        await tell(api.resources, work, "quota.soft_cap_reached", {})
    assert await rows(api, "select 1 from jobs where tenant_id = $1 and kind = 'billing.webhook'", person.tenant) == []


@pytest.mark.slow
async def test_an_event_is_sent_again_until_it_is_taken_under_the_same_id(hooked: Api, receiver: Receiver) -> None:
    person = await hooked.person()
    receiver.answers += [503, 500, 200]
    await told(hooked, person.tenant, period="month", used=8000, limit=10000)
    async with working(hooked.servers.with_env(**enabled(receiver.url))):
        assert await ended(hooked, person.tenant, hurry=True) == "succeeded"
    deliveries = receiver.of(person.tenant)
    assert len(deliveries) == 3
    bodies = [check(one, "quota.soft_cap_reached", person.tenant) for one in deliveries]
    assert len({body["delivery_id"] for body in bodies}) == len({body["occurred_at"] for body in bodies}) == 1
    assert bodies[0]["data"] == {"period": "month", "used": 8000, "limit": 10000}
    assert await audited(hooked, person.tenant, "billing.webhook.failure") == []


@pytest.mark.slow
async def test_an_event_that_nobody_takes_is_on_record(hooked: Api, receiver: Receiver) -> None:
    person = await hooked.person()
    receiver.answers += [500, 500, 500]
    await told(hooked, person.tenant)
    await rows(hooked, "update jobs set max_attempts = 3 where tenant_id = $1", person.tenant)
    async with working(hooked.servers.with_env(**enabled(receiver.url))):
        assert await ended(hooked, person.tenant, hurry=True) == "failed"
    (event,) = await audited(hooked, person.tenant, "billing.webhook.failure")
    delivery_id = receiver.of(person.tenant)[0].json["delivery_id"]
    assert (event["actor_type"], event["outcome"], event["resource_id"]) == ("system", "failure", delivery_id)
    assert '"attempts": 3' in event["metadata"] and "The webhook answered 500." in event["metadata"]


@pytest.mark.slow
async def test_while_notifications_are_switched_off_events_wait(hooked: Api, receiver: Receiver) -> None:
    person = await hooked.person()
    await told(hooked, person.tenant)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(forced(hooked, Switch.NOTIFICATIONS))
        assert error_of(await person.post(PATH)) == ("FEATURE_TEMPORARILY_DISABLED", 503)
        _, runner = await stack.enter_async_context(working(hooked.servers.with_env(**enabled(receiver.url))))
        await runner._claim()  # it has looked, and has slept on what it saw
        assert ((await job(hooked, person.tenant))["state"], receiver.of(person.tenant)) == ("queued", [])
    async with working(hooked.servers.with_env(**enabled(receiver.url))):
        assert await ended(hooked, person.tenant) == "succeeded"


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"BILLING_WEBHOOK_URL": ""}, "BILLING_WEBHOOK_URL"), ({"BILLING_WEBHOOK_SECRET": ""}, "BILLING_WEBHOOK_SECRET"),
        ({"BILLING_WEBHOOK_SECRET": "short"}, "BILLING_WEBHOOK_SECRET"),
        ({"BILLING_WEBHOOK_URL": "ftp://b.example/x"}, "BILLING_WEBHOOK_URL"),
        ({"BILLING_WEBHOOK_URL": "https://u:p@b.example/x"}, "BILLING_WEBHOOK_URL"),
        ({"BILLING_WEBHOOK_TIMEOUT_MS": "0"}, "BILLING_WEBHOOK_TIMEOUT_MS"),
    ],
)  # fmt: skip
def test_what_is_enabled_by_halves_stops_the_start(changed: dict[str, str], missing: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(env={**enabled("https://billing.example/hooks"), **changed})
    assert [line for line in refused.value.lines if line.startswith(missing)] == refused.value.lines
    assert not any("secret of some length" in line or "u:p" in line for line in refused.value.lines)


def test_an_address_with_a_query_is_fine() -> None:
    assert load(env=enabled("https://billing.example/hooks?of=nexusrag")).billing.billing_webhook_url.endswith("?of=nexusrag")
