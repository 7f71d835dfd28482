"""The runbooks name requests that exist: each curl line and each path in them is held against the routes and their models."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from starlette.routing import Match

from nexusrag.app import routes_of
from nexusrag.domains import DOMAINS
from nexusrag.web.route import GatedRoute

RUNBOOKS = sorted((Path(__file__).parents[2] / "docs" / "runbooks").glob("*.md"))
ROUTES = [route for route in routes_of(DOMAINS, legacy=False) if isinstance(route, GatedRoute)]
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
# In prose: `GET $U/admin/slots`, `/v1/ops/slo`, `POST $U/self-serve/api-keys/{key_id}/revoke`.
_NAMED = re.compile(r"(?:([A-Z]+) )?(?:\$U|/v1)?(/[a-z][^\s?]*)(?:\?(\S+))?")
# What their setup says: -H "$H" and the like.
_HEADERS = {"$H": "authorization", "$J": "content-type", "$(key)": "idempotency-key"}
_SET_UP = {"$H": "H=", "$J": "J=", "$U": "U=", "$(key)": "key() {"}


@dataclass
class Asked:
    """A request of a runbook. Without `method` it is only named, and any method will do."""

    method: str | None
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    body: str | None = None
    headers: set[str] = field(default_factory=set)
    sent: bool = True


def asked_in(text: str) -> Iterator[Asked]:
    """Every request to the API that a runbook sends or names."""
    blocks, spans = _BLOCK.findall(text), _INLINE.findall(_BLOCK.sub("", text))
    commands = [arguments for code in (*blocks, *spans) if "curl " in code for arguments in commands_of(code)]
    assert len(commands) == len(re.findall(r"\bcurl -", text))  # none escapes
    for arguments in commands:
        asked = sent_by(arguments)
        if asked is not None:
            yield asked
    for span in spans:
        named = _NAMED.fullmatch(span)
        if named is not None:
            query = [(name, "…") for name in re.findall(r"(\w+)=", named[3] or "")]
            yield Asked(named[1], named[2], query, sent=False)


def commands_of(code: str) -> Iterator[list[str]]:
    """The arguments of each curl in a piece of shell."""
    code = re.sub(r"\\\n\s*", " ", code)
    lexer = shlex.shlex(re.sub(r"\s#\s.*", "", code), posix=True, punctuation_chars="|;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    command: list[str] = []
    for token in (*lexer, "\n"):
        if set(token) <= set("|;\n"):
            if command[:1] == ["curl"]:
                yield command[1:]
            command = []
        else:
            command.append(token)


def sent_by(arguments: list[str]) -> Asked | None:
    """What a curl sends to us; None if it goes elsewhere."""
    asked, method, where = Asked(None, ""), "", ""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-s", "-OJ", "-N"):
            continue
        if not argument.startswith("-"):
            where = argument
            continue
        value = next(rest)
        if argument == "-X":
            method = value
        elif argument == "-H":
            asked.headers.add(_HEADERS[value])
        elif argument == "-d":
            asked.body = value
        else:
            assert argument in ("-o", "-D", "-w"), argument
    if not where.startswith("$U/"):
        assert "${LLM_BASE_URL" in where, where
        return None
    asked.path, _, query = where.removeprefix("$U").partition("?")
    asked.method, asked.query = method or ("GET" if asked.body is None else "POST"), parse_qsl(query, keep_blank_values=True)
    return asked


def faults_of(asked: Asked) -> list[str]:
    """What a caller would be told."""
    path = "/v1" + re.sub(r"\$\w+|{\w+}", "x", asked.path)
    there = [
        route
        for route in ROUTES
        if route.matches({"type": "http", "path": path, "method": asked.method or "", "headers": []})[0] != Match.NONE
    ]
    fitting = [route for route in there if asked.method is None or asked.method in (route.methods or ())]
    if not fitting:
        return [f"{asked.method} {path}: there is {[sorted(route.methods or ()) for route in there] or 'no such path'}"]
    route = fitting[0]
    known = {one.alias: one for one in get_flat_params(route.dependant) if isinstance(one.field_info, Query)}
    faults = [f"{path}: no parameter {name}" for name, _ in asked.query if name not in known]
    if not asked.sent:
        return faults
    given = dict(asked.query)
    faults += [f"{path}: parameter {name} is missing" for name, one in known.items() if one.field_info.is_required() and name not in given]
    for name, value in asked.query:
        if name in known and "$" not in value:
            faults += [f"{path}: {name}={value}: {fault}" for fault in known[name].validate(value, {}, loc=("query", name))[1] or ()]
    if (route.body_field is not None and route.body_field.field_info.is_required()) or asked.body is not None:
        faults += body_faults(route, path, asked)
    needed = {"authorization"} if not route.gate.is_public else set()
    needed |= ({"idempotency-key"} if route.gate.keyed else set()) | ({"content-type"} if asked.body is not None else set())
    return faults + [f"{path}: no header {name}" for name in sorted(needed - asked.headers)]


def body_faults(route: GatedRoute, path: str, asked: Asked) -> list[str]:
    if route.body_field is None:
        return [f"{path}: takes no body"]
    if asked.body is None:
        return [f"{path}: takes a body"]
    try:
        body = json.loads(asked.body)
    except ValueError as error:
        return [f"{path}: the body is no JSON: {error}"]
    return [f"{path}: {fault}" for fault in route.body_field.validate(body, {}, loc=("body",))[1] or ()]


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_asks_for_what_there_is(runbook: Path) -> None:
    text = runbook.read_text()
    assert [used for used, made in _SET_UP.items() if used in text and made not in text] == []
    found = list(asked_in(text))
    assert any(asked.sent for asked in found)
    assert [fault for asked in found for fault in faults_of(asked)] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("`GET $U/admin/slotz`", "no such path"),
        ("`POST /v1/ops/slo`", "there is [['GET']]"),
        ("`GET $U/admin/costs/pricing/in-force?moment=…`", "no parameter moment"),
        ("```sh\ncurl -s $U/ops/health\n```", "no header authorization"),
        ('```sh\ncurl -s -H "$H" -X POST $U/corpora -d \'{"name": "x"}\'\n```', "no header content-type"),
        ('```sh\ncurl -s -H "$H" -X POST $U/corpora -H "$J" -d \'{"nam": "x"}\'   # made\n```', "'loc': ('body', 'nam')"),
        ('```sh\ncurl -s -H "$H" -X POST $U/corpora -H "$J" \\\n    -d "{\\"name\\": x}"\n```', "the body is no JSON"),
        ('```sh\ncurl -s -H "$H" -X POST $U/corpora | grep x\n```', "takes a body"),
        ('```sh\ncurl -s -H "$H" -X POST $U/admin/ops/actions/freeze-writes\n```', "no header idempotency-key"),
        ('`curl -s -H "$H" "$U/admin/costs/spend/timeseries?days=two"`', "days=two"),
        ('`curl -s -H "$H" -X POST "$U/admin/costs/chargeback/generate?period_start=2026-02-01T00:00:00Z"`', "period_end is missing"),
    ],
)  # fmt: skip
def test_a_request_that_does_not_exist_is_told(text: str, told: str) -> None:
    assert any(told in fault for asked in asked_in(text) for fault in faults_of(asked))
