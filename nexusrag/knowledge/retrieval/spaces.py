"""Which model a space of the index belongs to. A space never changes, so what was read once is kept."""

from nexusrag.infra.database import Work


class Spaces:
    """Models by space."""

    def __init__(self) -> None:
        self._models: dict[int, str] = {}

    async def model_of(self, work: Work, space_id: int) -> str:
        if space_id not in self._models:
            self._models[space_id] = await work.raw.fetchval("select model from embedding_spaces where id = $1", space_id)
        return self._models[space_id]
