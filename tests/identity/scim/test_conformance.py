"""The checks of scim2-tester, an independent client that follows the RFC through every attribute of our schemas."""

import asyncio
from collections import Counter

import httpx2
import pytest
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from tests.identity.scim.client import Scim, provisioning
from tests.support.api import Api

pytestmark = pytest.mark.slow


def checked(client: Scim) -> Counter[Status]:
    with httpx2.Client(base_url=client.base, headers={"Authorization": f"Bearer {client.token}"}) as http:
        results = check_server(SyncSCIMClient(http))
    assert [result for result in results if result.status is not Status.SUCCESS] == []
    return Counter(result.status for result in results)


async def test_every_check_passes_and_none_is_skipped(api: Api) -> None:
    found = await asyncio.to_thread(checked, await provisioning(api))
    print(f"scim2-tester: {found[Status.SUCCESS]} checks")
    assert found[Status.SUCCESS] >= 130
