"""The bucket's heart: gives each request to its operation, and lets the rules have their way.

The one truth is `Store`. Operations that importers use are carried out on it directly. Everything else goes
to moto (see `moto_bridge`), which is shown the store's content before each request and whose changes are
taken over after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from reattach.api.bucket import Delay, Hold, LoggedRequest, LoseResponse, Operation, Reset, Status
from reattach.api.effects import Front
from reattach.witness.s3 import buckets, digests, multipart, objects
from reattach.witness.s3.blob import Blob, MemoryBlob
from reattach.witness.s3.body import Receiver
from reattach.witness.s3.connection import ClientGone, Connection, DropConnection
from reattach.witness.s3.control import Control
from reattach.witness.s3.moto_bridge import MotoBridge
from reattach.witness.s3.request import Request
from reattach.witness.s3.request_log import RequestLog
from reattach.witness.s3.responses import Response, S3Error, error_response
from reattach.witness.s3.rules import ActiveRule, Rules, Snapshot, prepare, spoil, status_error
from reattach.witness.s3.store import MAX_KEY_BYTES, Store
from reattach.witness.s3.witnessed import Witnessed, decided
from reattach.witness.world import GO_ON
from reattach.witness.worlds import OpenListener, Worlds

# Bodies up to this size are hashed at once; larger ones by a thread, while others are served.
_INLINE_BYTES = 64 * 1024
_EMPTY = MemoryBlob(b"")

_PLAIN: dict[Operation, Callable[[Store, Request], Response]] = {
    Operation.GET_OBJECT: objects.get_object,
    Operation.HEAD_OBJECT: objects.head_object,
    Operation.COPY_OBJECT: objects.copy_object,
    Operation.DELETE_OBJECT: objects.delete_object,
    Operation.DELETE_OBJECTS: objects.delete_objects,
    Operation.CREATE_MULTIPART_UPLOAD: multipart.create_multipart_upload,
    Operation.COMPLETE_MULTIPART_UPLOAD: multipart.complete_multipart_upload,
    Operation.ABORT_MULTIPART_UPLOAD: multipart.abort_multipart_upload,
    Operation.LIST_PARTS: multipart.list_parts,
    Operation.LIST_MULTIPART_UPLOADS: multipart.list_multipart_uploads,
    Operation.LIST_BUCKETS: buckets.list_buckets,
    Operation.CREATE_BUCKET: buckets.create_bucket,
    Operation.HEAD_BUCKET: buckets.head_bucket,
    Operation.DELETE_BUCKET: buckets.delete_bucket,
    Operation.GET_BUCKET_LOCATION: buckets.get_bucket_location,
}

_LISTINGS: dict[Operation, Callable[[Store, Request, Snapshot | None], Response]] = {
    Operation.LIST_OBJECTS: buckets.list_objects,
    Operation.LIST_OBJECTS_V2: buckets.list_objects_v2,
}

_UPLOADS: dict[Operation, Callable[[Store, Request, digests.Digests], Response]] = {
    Operation.PUT_OBJECT: objects.put_object,
    Operation.UPLOAD_PART: multipart.upload_part,
    Operation.UPLOAD_PART_COPY: multipart.upload_part_copy,
}


class BucketService:
    """What connections ask (see `connection.Service`)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spool: Path | None,
        fronts: Mapping[Front, OpenListener] | None = None,
    ) -> None:
        self.loop = loop
        self.connections: set[Connection] = set()
        self.scratch = memoryview(bytearray(1 << 20))
        self.store = Store()
        self.log = RequestLog()
        self.rules = Rules(self.store)
        self._spool = spool
        self._moto = MotoBridge(self.store)
        self.worlds = Worlds(loop, fronts or {})
        self._control = Control(self.store, self.log, self.rules, self._moto, self.worlds)

    def begin(self) -> LoggedRequest:
        return self.log.begin()

    def new_receiver(self, length: int | None, payload_length: int | None, chunked: bool) -> Receiver:
        return Receiver(length, payload_length, chunked, self._spool)

    def answer_now(self, request: Request, connection: Connection) -> Response | None:
        """See `connection.Service`. The path of almost every request of an import."""
        self._check_key(request)
        witnessed = self._witness(request, connection)
        if witnessed is None:
            return self._carry_out_now(request)
        if witnessed.decision is not GO_ON:
            return None
        try:
            response = self._carry_out_now(request)
        except S3Error as e:
            response = error_response(e, request.method, request.logged.seq)
        if response is None:
            return None
        witnessed.performed(response)
        return response if witnessed.respond(response) is GO_ON else None

    def _witness(self, request: Request, connection: Connection) -> Witnessed | None:
        seen = self.worlds.client(request.logged.client)
        if seen is None:
            return None
        world, actor = seen
        link = connection.link
        if link is None or link.actor != actor or link.world is not world:
            self.lost(connection)
            link = connection.link = world.connect(actor, Front.S3, connection.abort)
        request.witnessed = Witnessed(world, link, request)
        return request.witnessed

    def lost(self, connection: Connection) -> None:
        """See `connection.Service`."""
        if connection.link is not None:
            connection.link.world.disconnect(connection.link)
            connection.link = None

    def _check_key(self, request: Request) -> None:
        if len(request.key) > MAX_KEY_BYTES // 4 and (size := len(request.key.encode())) > MAX_KEY_BYTES:
            details = [("Size", str(size)), ("MaxSizeAllowed", str(MAX_KEY_BYTES))]
            raise S3Error(400, "KeyTooLongError", "Your key is too long", details=details)

    def _carry_out_now(self, request: Request) -> Response | None:
        if self.rules or self._moto.wants(request):
            return None
        plain = _PLAIN.get(request.operation)
        if plain is not None:
            return plain(self.store, request)
        if request.operation in _LISTINGS:
            return _LISTINGS[request.operation](self.store, request, None)
        if request.operation is Operation.UPLOAD_PART_COPY:
            return None
        request.body = request.body or _EMPTY
        if request.body.size > _INLINE_BYTES:
            return None
        return _UPLOADS[request.operation](
            self.store, request, digests.digest(request.body, digests.needed(request))
        )

    async def answer(self, request: Request, connection: Connection) -> Response:
        """See `connection.Service`."""
        witnessed = request.witnessed
        if witnessed is None:
            return await self._answer(request, connection)
        try:
            if witnessed.response is None:
                await self._perform(witnessed, request, connection)
            assert witnessed.response is not None
            if witnessed.effect is not None:
                verdict = await decided(witnessed.decision, witnessed.effect, connection)
                if verdict.dropped is not None:
                    witnessed.response.body.close()
                    witnessed.drop(verdict.dropped)
                    raise DropConnection
        except ClientGone:
            witnessed.drop("the sender is gone")
            raise
        return witnessed.response

    async def _perform(self, witnessed: Witnessed, request: Request, connection: Connection) -> None:
        if witnessed.effect is not None:
            verdict = await decided(witnessed.decision, witnessed.effect, connection)
            if verdict.dropped is not None:
                witnessed.drop(verdict.dropped)
                raise DropConnection
            if verdict.status is not None:
                error = status_error(Status(status=verdict.status))
                witnessed.respond(error_response(error, request.method, request.logged.seq))
                return
        try:
            response = await self._answer(request, connection)
        except S3Error as e:
            response = error_response(e, request.method, request.logged.seq)
            witnessed.performed(response)
        except DropConnection:
            witnessed.drop("a fault")
            raise
        witnessed.respond(response)

    async def _answer(self, request: Request, connection: Connection) -> Response:
        fired = self.rules.fire(request)
        decides: ActiveRule | None = None
        for rule in fired:
            decides = await self._before(rule, request, connection)
        if decides is None:
            return await self._carry_out(request, None)
        response = await self._carry_out(request, prepare(decides, request))
        if isinstance(decides.rule.action, LoseResponse):
            response.body.close()
            raise DropConnection
        return spoil(decides, request, response)

    async def _before(self, rule: ActiveRule, request: Request, connection: Connection) -> ActiveRule | None:
        """What the rule does before the request is carried out; the rule if it also has to do after."""
        match rule.rule.action:
            case Delay(seconds=seconds):
                waiter = self.loop.create_future()
                try:
                    await connection.wait(waiter, seconds)
                except TimeoutError:
                    return None
            case Hold(abandoned=abandoned):
                verdict = rule.hold(request.logged.seq)
                outcome = await (verdict if abandoned else connection.wait(verdict))
                if isinstance(outcome, Status):
                    raise status_error(outcome)
                if outcome == "drop":
                    raise DropConnection
                return None
            case Status() as status:
                raise status_error(status)
            case Reset(after=None):
                raise DropConnection
        return rule

    async def _carry_out(self, request: Request, view: Snapshot | None) -> Response:
        response = await self._do(request, view)
        if request.witnessed is not None:
            # Whatever becomes of the answer.
            request.witnessed.performed(response)
        return response

    async def _do(self, request: Request, view: Snapshot | None) -> Response:
        if self._moto.wants(request):
            return await self._moto.answer(request)
        operation = request.operation
        plain = _PLAIN.get(operation)
        if plain is not None:
            return plain(self.store, request)
        if operation in _LISTINGS:
            return _LISTINGS[operation](self.store, request, view)
        if operation is Operation.UPLOAD_PART_COPY:
            request.body = multipart.part_to_copy(self.store, request)
        request.body = request.body or _EMPTY
        of_body = await self._digest(request.body, digests.needed(request))
        return _UPLOADS[operation](self.store, request, of_body)

    async def _digest(self, body: Blob, algorithms: list[str]) -> digests.Digests:
        if body.size <= _INLINE_BYTES:
            return digests.digest(body, algorithms)
        return await self.loop.run_in_executor(None, digests.digest, body, algorithms)

    async def answer_control(self, request: Request, connection: Connection) -> Response:
        return await self._control.answer(request, connection)

    def stalled(self, connection: Connection, rule: int) -> None:
        """See `connection.Service`."""
        active = self.rules.get(rule)
        if active is None:
            connection.resume()
        else:
            active.stall(connection)
