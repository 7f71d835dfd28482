"""What is known of a space of the index: its model, which never changes, and whether its HNSW index can be used yet."""

from dataclasses import dataclass

from nexusrag.infra.database import Work

_SPACE = (
    "select s.model, coalesce(i.indisvalid, false) as indexed from embedding_spaces s "
    "left join pg_index i on i.indexrelid = to_regclass('public.embeddings_hnsw_' || s.id) where s.id = $1"
)


@dataclass(frozen=True, slots=True)
class Space:
    """`indexed`: an index of all its vectors is ready."""

    model: str
    indexed: bool


class Spaces:
    """Spaces by id. One that has its index is read once."""

    def __init__(self) -> None:
        self._indexed: dict[int, Space] = {}

    async def of(self, work: Work, space_id: int) -> Space:
        held = self._indexed.get(space_id)
        if held is not None:
            return held
        row = await work.raw.fetchrow(_SPACE, space_id)
        assert row is not None, "spaces are never removed"
        space = Space(row["model"], row["indexed"])
        if space.indexed:
            self._indexed[space_id] = space
        return space
