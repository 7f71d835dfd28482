"""PATCH (RFC 7644, section 3.5.2) in the dialects that are spoken: what is asked for, and what a document is after it.

Nothing is written here: whoever asks applies all operations to a copy, and keeps it when none has failed.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from nexusrag.identity.scim.answers import MESSAGES, invalid
from nexusrag.identity.scim.documents import Document, demand_few, one_of, put, value_of
from nexusrag.identity.scim.filters import Node, parse_path
from nexusrag.identity.scim.matching import Effort, chosen, demanded
from nexusrag.identity.scim.paths import Target, resolve
from nexusrag.identity.scim.schema import Attribute, ResourceType

MAX_OPERATIONS = 1000
Op = Literal["add", "replace", "remove"]


@dataclass(frozen=True, slots=True)
class Operation:
    """`node` selects from the list that `target` is; `sub` is what changes in each value selected."""

    op: Op
    target: Target
    value: Any = None
    node: Node | None = None
    sub: Attribute | None = None


def operations_of(kind: ResourceType, body: Mapping[str, Any]) -> list[Operation]:
    """Raises SCIM_PAYLOAD_INVALID with invalidSyntax, invalidPath, invalidFilter, invalidValue, noTarget or mutability."""
    fields = _folded(body)
    schemas, given = fields.get("schemas"), fields.get("operations")
    if schemas is not None and f"{MESSAGES}PatchOp" not in (schemas if isinstance(schemas, list) else ()):
        raise invalid("invalidSyntax", f"schemas must name {MESSAGES}PatchOp.")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise invalid("invalidSyntax", "Operations must be a list of objects.")
    if len(given) > MAX_OPERATIONS:
        raise invalid("invalidSyntax", f"There are more than {MAX_OPERATIONS} operations.")
    return [operation for one in given for operation in _operations(kind, _folded(one))]


def applied(document: Document, operations: Sequence[Operation]) -> Document:
    """The document after all operations; the one given stays as it is."""
    changed, effort = copy.deepcopy(document), Effort()
    for operation in operations:
        if operation.node is None:
            _apply(changed, operation, effort)
        else:
            _apply_to_selected(changed, operation, effort)
    return {name: kept for name, value in changed.items() if (kept := _pruned(value)) not in ({}, [])}


def _operations(kind: ResourceType, fields: Mapping[str, Any]) -> Iterator[Operation]:
    word, path, value = fields.get("op"), fields.get("path"), fields.get("value")
    op = word.lower() if isinstance(word, str) else ""
    if op not in ("add", "replace", "remove"):
        raise invalid("invalidSyntax", "op must be add, replace or remove.")
    if path is not None and not isinstance(path, str):
        raise invalid("invalidPath", "path must be a text.")
    if op != "remove" and "value" not in fields:
        raise invalid("invalidValue", f"{op} needs a value.")
    if path:
        yield _operation(kind, cast(Op, op), path, value)
    elif op == "remove":
        raise invalid("noTarget", "remove needs a path.")
    elif not isinstance(value, dict):
        raise invalid("invalidValue", f"{op} without a path needs an object of attributes.")
    else:
        yield from _spread(kind, cast(Op, op), value)


def _spread(kind: ResourceType, op: Op, values: Mapping[str, Any], prefix: str = "") -> Iterator[Operation]:
    """One operation for each attribute of a value without a path. Read-only and unknown ones are passed over, as in a PUT."""
    for name, value in values.items():
        path = prefix + name
        if "[" in path:
            yield _operation(kind, op, path, value)
            continue
        target = resolve(kind, path)
        if target is None or not target.writable:
            continue
        if target.last.name.startswith("urn:") and isinstance(value, dict):
            yield from _spread(kind, op, value, f"{path}:")
        else:
            yield Operation(op, target, value)


def _operation(kind: ResourceType, op: Op, text: str, value: Any) -> Operation:
    path = parse_path(text)
    target = resolve(kind, path.name)
    if target is None:
        raise invalid("invalidPath", f"There is no attribute {path.name[:100]!r}.")
    sub = None
    if path.node is not None:
        if not target.last.many:
            raise invalid("invalidPath", f"{path.name} holds no list to select from.")
        sub = None if path.sub is None else target.last.sub(path.sub)
        if path.sub is not None and sub is None:
            raise invalid("invalidPath", f"{path.name} has no sub-attribute {path.sub[:100]!r}.")
    if not target.writable or (sub is not None and not sub.writable):
        raise invalid("mutability", f"{text[:100]} cannot be changed.")
    if op == "remove" and target.last.required:
        raise invalid("mutability", f"{path.name} cannot be removed.")
    return Operation(op, target, value, path.node, sub)


def _apply(document: Document, operation: Operation, effort: Effort) -> None:
    *way, last = operation.target.steps
    parents: list[Document] = [document]
    for step in way:
        if operation.op != "remove":
            for parent in parents:
                parent.setdefault(step.name, [{}] if step.many else {})
        below = [parent[step.name] for parent in parents if step.name in parent]
        parents = [one for held in below for one in held] if step.many else below
    for parent in parents:
        _change(parent, last, operation, effort)
    for step in way:
        if step.many:  # all of its values have changed, and one alone can be the primary one
            demand_few(step, document.get(step.name, ()))


def _change(parent: Document, attribute: Attribute, operation: Operation, effort: Effort) -> None:
    """Add, replace or remove the attribute as a whole."""
    op, value = operation.op, operation.value
    if op == "remove":
        _remove(parent, attribute, value, effort)
    elif attribute.many:
        given = value_of(attribute, value) or []
        held = parent.get(attribute.name, []) if op == "add" else []
        effort.spend(len(held) * len(given))
        parent[attribute.name] = _joined(attribute, held, given)
    elif attribute.kind == "complex" and isinstance(value, dict):
        _merge(parent.setdefault(attribute.name, {}), attribute, value)
    else:
        put(parent, attribute, value)


def _remove(parent: Document, attribute: Attribute, value: Any, effort: Effort) -> None:
    """All of it, or, as some clients ask, the values that are given."""
    if not attribute.many or value is None:
        parent.pop(attribute.name, None)
        return
    unwanted, held = value_of(attribute, value) or [], parent.get(attribute.name, [])
    effort.spend(len(held) * len(unwanted))
    parent[attribute.name] = [one for one in held if not any(other.items() <= one.items() for other in unwanted)]


def _merge(held: Document, attribute: Attribute, value: Mapping[str, Any]) -> None:
    for name, inner in value.items():
        sub = attribute.sub(name)
        if sub is not None and sub.writable:
            put(held, sub, inner)


def _joined(attribute: Attribute, held: list[Any], given: list[Any]) -> list[Any]:
    """Both, without repetition. A new primary value takes the place of the old one."""
    joined = held + [one for one in given if one not in held]
    for one in given:
        _leave_one_primary(joined, one)
    demand_few(attribute, joined)
    return joined


def _leave_one_primary(values: list[Any], primary: Any) -> None:
    if primary.get("primary") is True:
        for one in values:
            if one is not primary and one != primary and one.get("primary") is True:
                one["primary"] = False


def _apply_to_selected(document: Document, operation: Operation, effort: Effort) -> None:
    *way, attribute = operation.target.steps
    parent = document
    for step in way:
        parent = parent.setdefault(step.name, {})
    held: list[Any] = parent.setdefault(attribute.name, [])
    node = operation.node
    if node is None:
        raise LookupError(operation.target)
    found = chosen(attribute, node, held, effort)
    if not found:
        found = [_made(attribute, node, operation)]
        held.extend(found)
    if operation.op == "remove" and operation.sub is None:
        parent[attribute.name] = [one for one in held if not any(one is other for other in found)]
        return
    for one in found:
        _change_selected(one, attribute, operation)
        _leave_one_primary(held, one)
    demand_few(attribute, held)


def _made(attribute: Attribute, node: Node, operation: Operation) -> Document:
    """A new value as the filter asks for it: some clients write `emails[type eq "work"].value` before there is one."""
    wanted = None if operation.op == "remove" else demanded(attribute, node)
    made = None if wanted is None else one_of(attribute, wanted)
    if made is None:
        raise invalid("noTarget", f"No value of {attribute.name} is as the path says.")
    return cast(Document, made)


def _change_selected(one: Document, attribute: Attribute, operation: Operation) -> None:
    if operation.sub is not None:
        put(one, operation.sub, None if operation.op == "remove" else operation.value)
        return
    given = one_of(attribute, operation.value) or {}
    if operation.op == "replace":
        one.clear()
    one.update(given)


def _pruned(value: Any) -> Any:
    """Without what is empty."""
    if isinstance(value, dict):
        return {name: kept for name, inner in value.items() if (kept := _pruned(inner)) not in ({}, [])}
    return [kept for one in value if (kept := _pruned(one)) not in ({}, [])] if isinstance(value, list) else value


def _folded(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name.lower(): value for name, value in body.items()}
    if len(fields) != len(body):
        raise invalid("invalidSyntax", "The same field is given twice.")
    return fields
