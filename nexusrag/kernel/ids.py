"""Identifiers: UUIDv7 (RFC 9562) with a prefix that names the kind, and the patterns of ids that clients choose."""

import re
import secrets

import uuid_utils

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CLIENT_ID_PATTERN = f"^{CLIENT_ID.pattern}$"


def new_id(prefix: str) -> str:
    """A new id such as `doc_0199c9…`: sorts by time of creation, 74 random bits."""
    return f"{prefix}_{uuid_utils.uuid7().hex}"


def unguessable_id(prefix: str) -> str:
    """An id with 160 random bits, for what is reached by knowing its id."""
    return f"{prefix}_{secrets.token_hex(20)}"


def is_tenant_id(value: str) -> bool:
    return TENANT_ID.fullmatch(value) is not None


def is_client_id(value: str) -> bool:
    return CLIENT_ID.fullmatch(value) is not None
