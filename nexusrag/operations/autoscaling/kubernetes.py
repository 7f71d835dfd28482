"""One question to a Kubernetes API server about the scale of our Deployment. A client is made for each: they are rare."""

import asyncio
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config

from nexusrag.settings.autoscaling import AutoscalingSettings

FAILURES = (client.ApiException, config.ConfigException, aiohttp.ClientError, OSError, TimeoutError)


async def ask(settings: AutoscalingSettings, operation: str, *body: Any) -> Any:
    """What `operation` of the client's AppsV1Api answers. Raises one of FAILURES."""
    async with asyncio.timeout(settings.autoscaling_kubernetes_timeout_s):
        configuration = client.Configuration()
        if settings.autoscaling_kubernetes_kubeconfig:
            await config.load_kube_config(
                settings.autoscaling_kubernetes_kubeconfig, client_configuration=configuration, persist_config=False
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        async with client.ApiClient(configuration) as api:
            asked = getattr(client.AppsV1Api(api), operation)
            return await asked(settings.autoscaling_kubernetes_deployment, settings.autoscaling_kubernetes_namespace, *body)
