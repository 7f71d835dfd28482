"""Names of attributes as clients write them: `emails.value`, `urn:…:User:department`, in any case."""

from dataclasses import dataclass

from nexusrag.identity.scim.schema import Attribute, ResourceType


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for: the attributes on the way, from the resource down. An extension is the first step of its own."""

    steps: tuple[Attribute, ...]

    @property
    def last(self) -> Attribute:
        return self.steps[-1]

    @property
    def head(self) -> tuple[Attribute, ...]:
        """The way to the list among the steps, or the whole way where there is none."""
        for index, step in enumerate(self.steps):
            if step.many:
                return self.steps[: index + 1]
        return self.steps

    @property
    def writable(self) -> bool:
        return all(step.writable for step in self.steps)

    def below(self, name: str) -> "Target | None":
        """The sub-attribute of this name."""
        sub = self.last.sub(name)
        return None if sub is None else Target((*self.steps, sub))

    def __str__(self) -> str:
        return ".".join(step.name for step in self.steps)


def resolve(kind: ResourceType, name: str) -> Target | None:
    """The attribute that `name` stands for, or None."""
    folded = name.lower()
    for schema in (kind.schema, *kind.extensions):
        urn = schema.urn.lower()
        if folded == urn or folded.startswith(f"{urn}:"):
            rest = name[len(urn) + 1 :]
            if schema is kind.schema:
                return _walk(kind, None, rest)
            return _walk(kind, Target((_extension(kind, schema.urn),)), rest)
    return None if folded.startswith("urn:") else _walk(kind, None, name)


def _walk(kind: ResourceType, start: Target | None, names: str) -> Target | None:
    """Follow dotted names down. Names that begin with a URN are not looked for."""
    target = start
    for name in names.split(".") if names else ():
        if target is None:
            attribute = kind.attribute(name)
            target = None if attribute is None else Target((attribute,))
        else:
            target = target.below(name)
        if target is None:
            return None
    return target


def _extension(kind: ResourceType, urn: str) -> Attribute:
    attribute = kind.attribute(urn)
    if attribute is None:
        raise LookupError(urn)
    return attribute
