"""A Kubernetes API server as far as our client speaks to it: the scale of one Deployment, over TLS, with a bearer token."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATH = "/apis/apps/v1/namespaces/answers/deployments/nexusrag-api/scale"
TOKEN = "a-service-accounts-token"


@dataclass
class ApiServer:
    """What it was asked, and how many replicas there are. `fails`: with this status, whatever is asked. `drips`: it never ends."""

    kubeconfig: Path
    certificate: Path
    port: int = 0
    replicas: int = 2
    fails: int | None = None
    hangs: bool = False
    cuts: bool = False
    drips: bool = False
    arrived: int = 0
    nonsense: str | None = None
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.arrived += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.cuts and request.transport is not None:
            request.transport.abort()
        if self.drips:
            return await _dripped(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if (scheme.lower(), token) != ("bearer", TOKEN):
            return web.json_response(_status(401), status=401)
        if self.fails is not None:
            return web.json_response(_status(self.fails), status=self.fails)
        if self.nonsense is not None:
            return web.Response(text=self.nonsense, content_type="application/json")
        if request.path != PATH:
            return web.json_response(_status(404), status=404)
        body = json.loads(await request.text()) if request.method == "PATCH" else None
        self.asked.append((request.method, request.headers.get("Content-Type", ""), body))
        if body is not None:
            self.replicas = body["spec"]["replicas"]
        return web.json_response(
            {
                "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "nexusrag-api", "namespace": "answers"},
                "spec": {"replicas": self.replicas}, "status": {"replicas": self.replicas},
            }
        )  # fmt: skip


@asynccontextmanager
async def api_server(directory: Path) -> AsyncIterator[ApiServer]:
    """A server on loopback, and a kubeconfig that leads to it."""
    certificate, key = _certificate(directory)
    server = ApiServer(directory / "kubeconfig", certificate)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.port = runner.addresses[0][1]
    server.kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{
            "name": "here", "cluster": {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": str(certificate)},
        }],
        "users": [{"name": "scaler", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "scaler", "namespace": "answers"}}],
    }))  # fmt: skip
    try:
        yield server
    finally:
        await runner.cleanup()


async def _dripped(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    while True:
        await answer.write(b" ")
        await asyncio.sleep(0.2)


def _status(code: int) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "server.crt", directory / "server.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate, private
