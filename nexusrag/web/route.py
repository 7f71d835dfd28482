"""The route class: runs the pipeline around a handler, in one transaction, and commits before the first byte of the answer."""

import asyncio
import functools
import inspect
import re
import types
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, get_args, get_origin

import orjson
import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.datastructures import UploadFile
from starlette.routing import Match
from starlette.types import Scope

from nexusrag.infra.database import contended, unreachable
from nexusrag.infra.ids import request_id_of
from nexusrag.infra.metrics import REQUESTS
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.traffic import class_of
from nexusrag.settings import Settings
from nexusrag.web import sse
from nexusrag.web.body import read_form, read_json
from nexusrag.web.call import CALL_KEY, CallContext, Outcome
from nexusrag.web.envelope import ENVELOPED, Data, Errors, Listed, enveloped, error_response
from nexusrag.web.gate import Gate
from nexusrag.web.legacy import legacy_headers
from nexusrag.web.sse import EventStream
from nexusrag.web.stage import Pipeline, Stage
from nexusrag.web.turn import take_turn

log = structlog.get_logger(__name__)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GatedRoute(APIRoute):
    """A route with its gate. The pipeline and the resources are found on the application when a request comes."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, gate: Gate, legacy: bool = False, errors: Errors = ENVELOPED, **options: Any
    ) -> None:
        self.gate = gate
        self.errors = errors
        self.legacy = legacy
        self.route_class = gate.rate or class_of(next(iter(sorted(options.get("methods") or ("GET",)))), path)
        self._stages: tuple[tuple[Stage, ...], tuple[Stage, ...]] | None = None
        self._begins = path.partition("{")[0]
        super().__init__(path, as_data(endpoint, options.get("status_code") or 200), strict_content_type=False, **options)

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()
        label = self.path_format

        async def handle(request: Request) -> Response:
            state = request.app.state
            call = CallContext(request, self.gate, request_id_of(request), state.resources, state.loaders, self.route_class, self.legacy)
            request.scope[CALL_KEY] = call
            pipeline: Pipeline = state.pipeline
            refused: ApiError | None = None
            try:
                _refuse_nul(request)
                response = await self._answer(call, pipeline, inner)
            except (ApiError, RequestValidationError) as error:
                refused = invalid(error) if isinstance(error, RequestValidationError) else error
            except Exception as error:  # the last resort: the client gets a code and an id, the log gets the trace
                refused = _unforeseen(error, call)
            except BaseException:  # the server stops: nobody is answered
                await asyncio.shield(call.run_over(Outcome(499, None, False)))
                raise
            finally:
                call.leave()
            if refused is not None:
                response = await self._refuse(call, pipeline, refused)
            await _tell(call, response, refused)
            REQUESTS.labels(request.method, label, str(response.status_code)).inc()
            return response

        return handle

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Routes are asked one after the other: most can tell from how the path begins.
        if not scope.get("root_path") and not scope["path"].startswith(self._begins):
            return Match.NONE, {}
        return super().matches(scope)

    def stages(self, pipeline: Pipeline) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """The stages that apply to this route, before and within the transaction."""
        if self._stages is None:
            method = next(iter(self.methods or ("GET",)))
            self._stages = (
                tuple(stage for stage in pipeline.before if stage.applies(self.gate, method)),
                tuple(stage for stage in pipeline.within if stage.applies(self.gate, method)),
            )
        return self._stages

    async def _answer(self, call: CallContext, pipeline: Pipeline, inner: Handler) -> Response:
        before, within = self.stages(pipeline)
        for stage in before:
            await stage.enter(call)
        await self._read_body(call)
        if not self.gate.is_public:
            await take_turn(call)
        if not self.gate.transaction:
            return self._finish(call, await inner(call.request))
        try:
            async with AsyncExitStack() as stack:
                await call.begin_work(stack)
                response = await self._within(call, pipeline, within, inner)
        except BaseException:
            # A COMMIT that was sent may have been carried out though its answer was lost: nothing is taken back then.
            if not call.commit_sent:
                await asyncio.shield(call.run_on_failure())
            raise
        finally:
            call.drop_work()
        await call.run_after_commit()
        return response

    async def _within(self, call: CallContext, pipeline: Pipeline, stages: tuple[Stage, ...], inner: Handler) -> Response:
        for stage in stages:
            await stage.enter(call)
            if call.replay is not None:
                replay: Response = call.replay
                if call.legacy:
                    replay.headers.update(legacy_headers())
                return replay
        response = self._finish(call, await inner(call.request))
        for closing in pipeline.closing if call.has_work else ():
            await closing(call, response.status_code, bytes(getattr(response, "body", b"")))
        return response

    async def _read_body(self, call: CallContext) -> None:
        if self.body_field is None:
            return
        web = call.of(Settings).web
        if isinstance(self.body_field.field_info, Form):
            call.body, call.fingerprint = await read_form(call.request, web.max_upload_bytes)
            for upload in call.body.values():
                if isinstance(upload, UploadFile):
                    call.on_leaving(upload.file.close)  # also when a later stage refuses
        else:
            call.body, call.fingerprint = await read_json(call.request, web.max_json_body_bytes)

    def _finish(self, call: CallContext, response: Response) -> Response:
        if isinstance(response, Data):
            plain = call.legacy or not self.gate.enveloped
            if response.status_code == 204:
                response = Response(status_code=204)
            else:
                body = response.payload if plain else enveloped(response.payload, call.request_id, response.page)
                response = Response(body, status_code=call.status or response.status_code, media_type="application/json")
        # In one go: set one by one, each would look through those before it.
        headers = {**call.always, **call.headers}
        given = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
        given[b"x-request-id"] = call.request_id.encode("latin-1")
        response.raw_headers[:] = [*(header for header in response.raw_headers if header[0] not in given), *given.items()]
        if call.legacy:
            response.headers.update(legacy_headers())
        return response

    async def _refuse(self, call: CallContext, pipeline: Pipeline, error: ApiError) -> Response:
        call.drop_work()
        await pipeline.denied(call, error)
        if error.told is not None and call.request.headers.get("accept", "").startswith("text/event-stream"):
            response = sse.refused(error, call.request_id, error.told)
        elif call.legacy:
            response = error_response(error, call.request_id, legacy=True, headers=legacy_headers())
        else:
            response = self.errors.answer(error, call.request_id)
        for name, value in call.always.items():
            response.headers.setdefault(name, value)
        return response


async def _tell(call: CallContext, response: Response, refused: ApiError | None) -> None:
    """Tell those who asked for it how the request was answered: at once, or when its stream has ended."""
    if not call.is_watched:
        return
    outcome = Outcome(response.status_code, refused.code.value if refused else None, call.replay is not None)
    if isinstance(response, EventStream):
        response.over = functools.partial(_tell_of_stream, call, response, outcome)
    else:
        await asyncio.shield(call.run_over(outcome))


async def _tell_of_stream(call: CallContext, stream: EventStream, outcome: Outcome) -> None:
    await call.run_over(replace(outcome, error=call.stream_error, first_at=stream.first_at, complete=stream.complete))


def as_data(endpoint: Callable[..., Awaitable[Any]], status: int) -> Callable[..., Awaitable[Response]]:
    """`endpoint`, with what it returns serialised by its return annotation. Responses (streams, files) pass as they are."""
    returned = inspect.signature(endpoint, eval_str=True).return_annotation
    listed = get_origin(returned) is Listed
    shape: Any = types.GenericAlias(list, get_args(returned)[0]) if listed else _serialisable(returned)
    adapter: TypeAdapter[Any] = TypeAdapter(shape)

    @functools.wraps(endpoint)
    async def handler(*args: Any, **kwargs: Any) -> Response:
        result = await endpoint(*args, **kwargs)
        if isinstance(result, Response):
            return result
        if isinstance(result, Listed) and result.rows is not None:
            return Data(orjson.dumps(result.rows, option=orjson.OPT_UTC_Z), status, result.page)
        if isinstance(result, Listed):
            return Data(adapter.dump_json(result.items), status, result.page)
        return Data(adapter.dump_json(result), status)

    return handler


def _serialisable(annotation: Any) -> Any:
    return Any if inspect.isclass(annotation) and issubclass(annotation, Response) else annotation


def _refuse_nul(request: Request) -> None:
    """PostgreSQL keeps no NUL in text, so no path or query that holds one can name anything."""
    if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise ApiError(ErrorCode.BAD_REQUEST, "The path or the query holds a NUL character.")


_NOISE = re.compile(r"^(Value error|Assertion failed), ")


def invalid(error: RequestValidationError) -> ApiError:
    """VALIDATION_ERROR that names each field. Values are not echoed: they may be documents or secrets."""
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"]),
            "message": _NOISE.sub("", str(fault["msg"])),
            "type": fault["type"],
        }
        for fault in error.errors()
    ]
    first = faults[0] if faults else {"field": "request", "message": "cannot be understood"}
    return ApiError(ErrorCode.VALIDATION_ERROR, f"{first['field']}: {first['message']}", {"errors": faults[:20]})


def _unforeseen(error: Exception, call: CallContext) -> ApiError:
    if unreachable(error):
        return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The database is away; try again shortly.", headers={"Retry-After": "1"})
    if contended(error):
        log.warning("request.contended", request_id=call.request_id, error=type(error).__name__)
        return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "Other work holds what this needs; try again shortly.", headers={"Retry-After": "1"})
    log.error("request.failed", request_id=call.request_id, error=type(error).__name__, exc_info=error)
    return ApiError(ErrorCode.INTERNAL_ERROR, "Something went wrong here; the request id lets an operator find it.")
