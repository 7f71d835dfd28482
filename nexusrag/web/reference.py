"""The interface as a page to read, made from the OpenAPI document: one file without scripts, so that it needs no network to be shown."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

# Nothing is fetched and nothing runs, whatever a description may hold.
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "summary{cursor:pointer;font-family:monospace;padding:.2rem 0}summary small{font-family:system-ui,sans-serif;color:#555}"
    "details>*:not(summary){margin-left:1.5rem}table{border-collapse:collapse}td{vertical-align:top;padding:.1rem .8rem .1rem 0}"
    "b{display:inline-block;min-width:4.5rem}"
)


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    parts = [f"<h1>{title}</h1>", f"<p>{_prose(document['info']['description'])}</p>"]
    parts.append('<p>For programs: <a href="/v1/openapi.json">/v1/openapi.json</a></p>')
    for tag in sorted(by_tag):
        parts += [f"<h2>{escape(tag)}</h2>", *by_tag[tag]]
    parts += ["<h2>Shapes</h2>", *(_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    about = [f"<p>{_prose(operation.get('description', ''))}</p>", *(f"<p>{_needed(one)}</p>" for one in operation["security"])]
    about.append(
        _table(
            (f"<code>{escape(one['name'])}</code>", escape(one["in"]), _type(one["schema"]), _prose(one.get("description", "")))
            for one in operation["parameters"]
        )
    )
    body = operation.get("requestBody", {}).get("content", {})
    about += [f"<p>Body, {escape(media_type)}: {_type(content['schema'])}</p>" for media_type, content in body.items()]
    about.append(
        _table(
            (f"<code>{status}</code>", ", ".join(_content(*one) for one in told.get("content", {}).items()), _prose(told["description"]))
            for status, told in operation["responses"].items()
        )
    )
    summary = f"<b>{method.upper()}</b> {escape(path)} <small>{escape(operation['summary'])}</small>"
    return f"<details><summary>{summary}</summary>{''.join(about)}</details>"


def _needed(demand: dict[str, list[str]]) -> str:
    (scheme, scopes), *_ = demand.items()
    return f"Credential: {escape(scheme)}" + (f", least role {escape(', '.join(scopes))}" if scopes else "")


def _content(media_type: str, content: dict[str, Any]) -> str:
    return _type(content["schema"]) if content.get("schema") else escape(media_type)


def _shape(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    fields = [
        (f"<code>{escape(key)}</code>", "" if key in required else "optional", _type(field), _prose(field.get("description", "")))
        for key, field in schema.get("properties", {}).items()
    ]
    about = f"<p>{_prose(schema.get('description', ''))}</p>" + (_table(fields) or f"<p>{_type(schema)}</p>")
    return f'<details id="{escape(name)}"><summary>{escape(name)}</summary>{about}</details>'


def _table(rows: Iterable[Sequence[str]]) -> str:
    made = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f"<table>{made}</table>" if made else ""


def _type(schema: Any) -> str:
    """What a value may be, in a few words of HTML."""
    if not isinstance(schema, dict) or not schema:
        return "anything"
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items'))}"
    kind = escape(" or ".join(schema["type"]) if isinstance(schema.get("type"), list) else schema.get("type", "anything"))
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return f"{kind} ({escape(', '.join(limits))})" if limits else kind


_LIMITS = {
    "format": "as", "minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than", "minLength": "length from",
    "maxLength": "length to", "minItems": "items from", "maxItems": "items to", "default": "default",
}  # fmt: skip


def _prose(text: str) -> str:
    """Text of a docstring: `code` stays code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
