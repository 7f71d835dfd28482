"""Calls to outside systems."""

from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import Field, field_validator

from nexusrag.settings.group import Group


class OutboundSettings(Group):
    outbound_allowed_networks: str = Field(
        "", description="comma-separated networks (CIDR) that may be called though they are not public, such as 127.0.0.0/8"
    )
    ext_call_timeout_ms: int = Field(
        8000,
        ge=100,
        description="longest call to an identity provider, and to an embedding endpoint about a question (about documents: a minute, if "
        "that is longer). Models, speech, webhooks and autoscaling have settings of their own",
    )

    @field_validator("outbound_allowed_networks")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def allowed_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of `outbound_allowed_networks`."""
        return parse_networks(self.outbound_allowed_networks)


def parse_networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks of a comma-separated list. Raises ValueError naming the entry that is none."""
    networks = []
    for entry in filter(None, (part.strip() for part in value.split(","))):
        try:
            networks.append(ip_network(entry))
        except ValueError as error:
            raise ValueError(f"{entry!r} is no network in CIDR notation ({error})") from None
    return tuple(networks)
