"""What a provider's claims say of a person: who they are, by which address they may be recognised, and which role they have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexusrag.kernel.actions import Role

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_ENTRA = re.compile(r"https://login\.microsoftonline\.com/([0-9a-f-]{36})/v2\.0")
_LONGEST_ADDRESS = 254
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Vouched:
    """Somebody for whom a provider vouches. `keys` are what a provisioning client may know them by; `email` is a verified one.

    `role` is None where the provider was not asked about roles.
    """

    subject: str
    keys: tuple[str, ...]
    email: str | None
    display_name: str | None
    role: Role | None


def vouched(claims: Mapping[str, Any], issuer: str, mapping: Mapping[str, Any] | None, default_role: Role) -> Vouched:
    """The person behind checked claims."""
    entra = _ENTRA.fullmatch(issuer)
    keys = [claims["sub"]]
    # Entra's `sub` is another one for each application, so provisioning sends the object id, which no person can change.
    if entra is not None and claims.get("tid") == entra[1] and isinstance(claims.get("oid"), str):
        keys.append(claims["oid"])
    return Vouched(
        claims["sub"],
        tuple(keys),
        _verified_address(claims, entra is not None),
        _name(claims),
        None if mapping is None else _mapped(claims, mapping, default_role),
    )


def _verified_address(claims: Mapping[str, Any], entra: bool) -> str | None:
    address = claims.get("email")
    # Entra lets people write their own address and says separately whether the organisation owns its domain.
    verified = claims.get("xms_edov") in (True, "1", "true") if entra else claims.get("email_verified") is True
    if not verified or not isinstance(address, str) or len(address) > _LONGEST_ADDRESS or not address.isprintable():
        return None
    return address if _ADDRESS.fullmatch(address) else None


def _name(claims: Mapping[str, Any]) -> str | None:
    for claim in ("name", "preferred_username"):
        name = claims.get(claim)
        if isinstance(name, str) and name.strip() and name.isprintable():
            return name.strip()[:_LONGEST_NAME]
    return None


def _mapped(claims: Mapping[str, Any], mapping: Mapping[str, Any], default_role: Role) -> Role:
    """The highest role among those that the claim's values stand for, letter for letter; the default when there is none."""
    roles: Mapping[str, str] = mapping["groups"] if "groups" in mapping else mapping["mapping"]
    given = claims.get("groups" if "groups" in mapping else mapping["claim"])
    values = given if isinstance(given, list) else [given]
    found = {Role(roles[value]) for value in values if isinstance(value, str) and value in roles}
    return max(found, key=lambda role: role.rank, default=default_role)
