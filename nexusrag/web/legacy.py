"""The deprecated unversioned aliases: `/documents` for `/v1/documents`, with bare bodies and three headers."""

from collections.abc import Mapping

PREFIX = "/v1"
SUNSET = "Sun, 10 May 2026 00:00:00 GMT"
_HEADERS: Mapping[str, str] = {"Deprecation": "true", "Sunset": SUNSET, "Link": '</v1/docs>; rel="successor-version"'}


def legacy_path(path: str) -> str:
    """The alias of a versioned path."""
    return path.removeprefix(PREFIX)


def legacy_headers() -> dict[str, str]:
    """Headers of every answer on an alias, failures included (RFC 9745, RFC 8594)."""
    return dict(_HEADERS)
