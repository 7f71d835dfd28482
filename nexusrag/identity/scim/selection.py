"""Which attributes an answer shows (RFC 7644, section 3.9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.paths import resolve
from nexusrag.identity.scim.schema import TYPES, Attribute, ResourceType

MAX_NAMES = 200
# Names of attributes; what is named as a whole has nothing below it.
_Tree = dict[str, "_Tree"]


@dataclass(frozen=True, slots=True)
class Selection:
    """What was named, by kind of resource. It is shown alone, or left out; nothing named shows everything."""

    trees: Mapping[str, _Tree] = field(default_factory=dict)
    excluding: bool = False

    def shows(self, kind: ResourceType, name: str) -> bool:
        """Whether anything of the attribute is shown."""
        if not self.trees:
            return True
        tree = self.trees[kind.name]
        return tree.get(name) != {} if self.excluding else name in tree

    def of(self, kind: ResourceType, document: dict[str, Any]) -> dict[str, Any]:
        """What is shown of the whole document."""
        if not self.trees:
            return document
        tree, shown = self.trees[kind.name], {}
        for name, value in document.items():
            attribute = kind.attribute(name)
            if attribute is None or attribute.returned == "always":
                shown[name] = value
            elif (below := self._below(tree, attribute, value)) is not None:
                shown[name] = below
        return shown

    def _below(self, tree: _Tree, attribute: Attribute, value: Any) -> Any:
        if attribute.name not in tree:
            return value if self.excluding else None
        inner = tree[attribute.name]
        if not inner:
            return None if self.excluding else value
        if isinstance(value, list):
            return [kept for one in value if (kept := self._inside(inner, attribute, one))] or None
        return self._inside(inner, attribute, value)

    def _inside(self, tree: _Tree, attribute: Attribute, value: dict[str, Any]) -> dict[str, Any] | None:
        kept = {}
        for name, one in value.items():
            sub = attribute.sub(name)
            below = None if sub is None else self._below(tree, sub, one)
            if below is not None:
                kept[name] = below
        return kept or None


def selected(attributes: list[str], excluded: list[str]) -> Selection:
    """Names that stand for nothing are passed over. Raises SCIM_PAYLOAD_INVALID with invalidValue when both are given, or too many."""
    wanted, unwanted = ([name.strip() for name in names if name.strip()] for names in (attributes, excluded))
    if wanted and unwanted:
        raise invalid("invalidValue", "Send attributes or excludedAttributes, not both.")
    names = wanted or unwanted
    if len(names) > MAX_NAMES:
        raise invalid("invalidValue", f"More than {MAX_NAMES} attributes are named.")
    return Selection({kind.name: _tree(kind, names) for kind in TYPES} if names else {}, excluding=bool(unwanted))


def listed(names: str | None) -> list[str]:
    """The names of a comma-separated query parameter."""
    return names.split(",") if names else []


def _tree(kind: ResourceType, names: list[str]) -> _Tree:
    tree: _Tree = {}
    targets = [target for name in names if (target := resolve(kind, name)) is not None]
    # The shorter first: who names an attribute means all of it.
    for target in sorted(targets, key=lambda target: len(target.steps)):
        inner: _Tree | None = tree
        for step in target.steps[:-1]:
            inner = None if inner is None or inner.get(step.name) == {} else inner.setdefault(step.name, {})
        if inner is not None:
            inner.setdefault(target.last.name, {})
    return tree
