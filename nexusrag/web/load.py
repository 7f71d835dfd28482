"""The stage that loads the resource which the gate names."""

from nexusrag.kernel.errors import ApiError
from nexusrag.web import idempotency
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage


async def load_resource(call: CallContext) -> None:
    """Set `call.loaded`, or refuse with NOT_FOUND unless this very request has deleted the resource before, and its answer is repeated.

    A body that lacks the id is left to the validation of the body.
    """
    kind = call.gate.on
    if kind is None:
        return
    fields = call.request.path_params if call.gate.at == "path" else call.body
    key = fields.get(kind.id_name) if isinstance(fields, dict) else None
    if not isinstance(key, str):
        return
    try:
        call.loaded = await call.loaders[kind](call, key)
    except ApiError as error:
        if error.status == 404:
            call.replay = await idempotency.repeated_deletion(call)
        if call.replay is None:
            raise


def _needed(gate: Gate, method: str) -> bool:
    return gate.on is not None


STAGE = Stage("load", load_resource, _needed)
