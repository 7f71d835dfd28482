"""One question to a Kubernetes API server about the scale of our Deployment. A client is made for each: they are rare."""

import asyncio
import time
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from nexusrag.settings.autoscaling import AutoscalingSettings

# ValueError: an answer that is no JSON or no scale.
FAILURES = (client.ApiException, config.ConfigException, HTTPError, OSError, TimeoutError, ValueError)


async def ask(settings: AutoscalingSettings, operation: str, *body: Any) -> Any:
    """What `operation` of the client's AppsV1Api answers. Raises one of FAILURES."""
    # The client bounds each read, and neither all of them together nor the look-up of a name.
    async with asyncio.timeout(settings.autoscaling_kubernetes_timeout_s):
        return await asyncio.to_thread(_ask, settings, operation, *body)


def _ask(settings: AutoscalingSettings, operation: str, *body: Any) -> Any:
    until = time.monotonic() + settings.autoscaling_kubernetes_timeout_s
    configuration = client.Configuration(retries=False)  # one that got no answer may have had its effect
    if settings.autoscaling_kubernetes_kubeconfig:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            settings.autoscaling_kubernetes_kubeconfig, client_configuration=configuration, persist_config=False
        )
    else:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    with client.ApiClient(configuration) as api:
        asked = getattr(client.AppsV1Api(api), operation)
        left = until - time.monotonic()
        if left <= 0:  # it was told that this failed
            raise TimeoutError
        return asked(settings.autoscaling_kubernetes_deployment, settings.autoscaling_kubernetes_namespace, *body, _request_timeout=left)
