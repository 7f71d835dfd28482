"""The HTTP face."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network

from pydantic import Field, SecretStr, field_validator

from nexusrag.settings.group import Group
from nexusrag.settings.outbound import parse_networks


class WebSettings(Group):
    api_host: str = Field("127.0.0.1", description="address that the API listens on")
    api_port: int = Field(8000, ge=1, le=65535, description="port that the API listens on")
    allowed_hosts: str = Field("*", description="comma-separated Host headers that are answered; `*`: any")
    trusted_proxies: str = Field(
        "", description="comma-separated networks (CIDR) of proxies whose X-Forwarded-For is believed; empty: clients connect directly"
    )
    max_json_body_bytes: int = Field(2_000_000, ge=1024, description="largest JSON body")
    max_upload_bytes: int = Field(50_000_000, ge=1024, description="largest uploaded file")
    ui_cursor_secret: SecretStr = Field(SecretStr(""), description="signs pagination cursors; made by embedded mode")
    idempotency_enabled: bool = Field(True, description="honour Idempotency-Key on writes")
    idempotency_ttl_hours: int = Field(24, ge=1, le=168, description="how long a stored answer is replayed")
    legacy_routes_enabled: bool = Field(True, description="serve the deprecated unversioned aliases")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        parse_networks(value)
        return value

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `trusted_proxies`."""
        return parse_networks(self.trusted_proxies)
