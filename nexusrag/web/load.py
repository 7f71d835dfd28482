"""The stage that loads the resource which the gate names."""

from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def load_resource(call: CallContext) -> None:
    """Set `call.loaded`, or refuse with NOT_FOUND. A body that lacks the id is left to the validation of the body."""
    kind = call.gate.on
    if kind is None:
        return
    name = f"{kind.value}_id"
    fields = call.request.path_params if call.gate.at == "path" else call.body
    key = fields.get(name) if isinstance(fields, dict) else None
    if isinstance(key, str):
        call.loaded = await call.loaders[kind](call, key)


def _needed(gate: Gate, method: str) -> bool:
    return gate.on is not None


STAGE = Stage("load", load_resource, _needed)
