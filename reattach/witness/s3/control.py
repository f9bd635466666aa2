"""The control API, below `/_control/` on the bucket's own port; `reattach.api.bucket` describes it."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Protocol

from reattach.api import codec
from reattach.api.bucket import (
    CONTROL_PREFIX,
    SECRET_VARIABLE,
    Health,
    HeldObject,
    Preload,
    ResetRequest,
    Rule,
    Verdict,
)
from reattach.witness.s3.blob import Blob, BlobChanged, PathBlob
from reattach.witness.s3.control_request import LONGEST_POLL, ControlError, Waits, body, number
from reattach.witness.s3.preload import PreloadError, preload
from reattach.witness.s3.request import Request
from reattach.witness.s3.request_log import RequestLog
from reattach.witness.s3.responses import Response, bytes_response
from reattach.witness.s3.rules import ActiveRule, Rules
from reattach.witness.s3.store import Bucket, Store
from reattach.witness.s3.world_routes import WorldRoutes
from reattach.witness.worlds import Worlds

_BODIES: dict[tuple[str, str], type[object]] = {
    ("POST", "preload"): Preload,
    ("POST", "reset"): ResetRequest,
    ("POST", "rules"): Rule,
    ("POST", "rules/{id}/verdict"): Verdict,
}


def _file_of(blob: Blob) -> str | None:
    return blob.unchanged_path if isinstance(blob, PathBlob) else None


class Forgets(Protocol):
    def forget(self) -> None: ...


class Control:
    def __init__(self, store: Store, log: RequestLog, rules: Rules, moto: Forgets, worlds: Worlds) -> None:
        self._store = store
        self._log = log
        self._rules = rules
        self._moto = moto
        self._worlds = WorldRoutes(worlds)
        self._secret = os.environ.get(SECRET_VARIABLE, "").encode()
        self._routes: dict[tuple[str, str], Callable[[Request, Waits], Awaitable[object]]] = {
            ("GET", "health"): self._health,
            ("POST", "preload"): self._preload,
            ("POST", "reset"): self._reset,
            ("GET", "objects"): self._objects,
            ("GET", "object"): self._object,
            ("GET", "requests"): self._requests,
            ("POST", "rules"): self._add_rule,
            ("GET", "rules"): self._list_rules,
            ("GET", "rules/{id}"): self._get_rule,
            ("DELETE", "rules/{id}"): self._remove_rule,
            ("POST", "rules/{id}/verdict"): self._judge,
        }

    async def answer(self, request: Request, connection: Waits) -> Response:
        """Errors are `{"msg": ...}` with a 4xx status."""
        parts = request.path.removeprefix(CONTROL_PREFIX).rstrip("/").split("/")
        if len(parts) > 1:
            parts[1] = "{id}"
        try:
            self._check_secret(request, "/".join(parts))
            if parts[0] == "worlds":
                status, value = 200, await self._worlds.answer(request, connection)
            else:
                status, value = 200, await self._handle(parts, request, connection)
        except ControlError as e:
            status, value = e.status, {"msg": str(e)}
        if isinstance(value, Response):
            return value
        return bytes_response(status, codec.encode(value), "application/json")

    async def _handle(self, parts: list[str], request: Request, connection: Waits) -> object:
        handler = self._routes.get((request.method, "/".join(parts)))
        if handler is None:
            raise ControlError(404, "no such control request")
        return await handler(request, connection)

    def _check_secret(self, request: Request, route: str) -> None:
        """Raises ControlError. Who has none is told no more than whether the request is one at all."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if self._secret and hmac.compare_digest(given, self._secret):
            return
        type_ = _BODIES.get((request.method, route))
        if type_ is not None:
            body(request, type_)
        raise ControlError(403, f"the secret of this server is needed, that of its {SECRET_VARIABLE}")

    async def _health(self, request: Request, _: Waits) -> Health:
        counts = [len(bucket.objects) for bucket in self._store.buckets.values()]
        return Health(os.getpid(), self._log.last_seq, len(counts), sum(counts))

    async def _preload(self, request: Request, _: Waits) -> object:
        wanted = body(request, Preload)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, preload, self._store, wanted)
        except PreloadError as e:
            raise ControlError(400, str(e)) from e

    async def _objects(self, request: Request, _: Waits) -> list[HeldObject]:
        prefix = request.query.get("prefix", "")
        return [
            HeldObject(key, held.blob.size, _file_of(held.blob))
            for key, held in self._bucket(request).objects.items()
            if key.startswith(prefix)
        ]

    async def _object(self, request: Request, _: Waits) -> Response:
        key = request.query.get("key", "")
        held = self._bucket(request).objects.get(key)
        if held is None:
            raise ControlError(404, f"no object {key!r}")
        try:
            body = held.blob.open(0, held.blob.size)
        except BlobChanged as e:
            raise ControlError(409, str(e)) from e
        return Response(200, body=body, length=held.blob.size)

    def _bucket(self, request: Request) -> Bucket:
        name = request.query.get("bucket", "")
        bucket = self._store.buckets.get(name)
        if bucket is None:
            raise ControlError(404, f"no bucket {name!r}")
        return bucket

    async def _reset(self, request: Request, connection: Waits) -> Health:
        wanted = body(request, ResetRequest)
        if wanted.rules:
            self._rules.clear()
        if wanted.objects:
            self._store.buckets.clear()
            self._moto.forget()
        if wanted.log:
            self._log.clear()
        return await self._health(request, connection)

    async def _requests(self, request: Request, _: Waits) -> object:
        query = request.query
        since, limit = number(query, "since", 1), number(query, "limit", 20_000)
        return self._log.read(int(since), int(limit), query.get("bucket"), query.get("prefix", ""))

    async def _add_rule(self, request: Request, _: Waits) -> object:
        return self._rules.add(body(request, Rule)).state

    async def _list_rules(self, request: Request, _: Waits) -> object:
        return self._rules.states()

    async def _get_rule(self, request: Request, connection: Waits) -> object:
        rule = self._rule(request)
        held, fired = int(number(request.query, "held", 0)), int(number(request.query, "fired", 0))
        if held or fired:
            timeout = min(number(request.query, "timeout", 0), LONGEST_POLL)
            await connection.wait(
                asyncio.ensure_future(rule.wait_until(held=held, fired=fired, timeout=timeout))
            )
        return rule.state

    async def _remove_rule(self, request: Request, _: Waits) -> object:
        rule = self._rule(request)
        state = rule.state
        self._rules.remove(rule.id)
        return state

    async def _judge(self, request: Request, _: Waits) -> object:
        rule = self._rule(request)
        rule.judge(body(request, Verdict))
        return rule.state

    def _rule(self, request: Request) -> ActiveRule:
        text = request.path.removeprefix(CONTROL_PREFIX).split("/")[1]
        rule = self._rules.get(int(text)) if text.isdigit() and text.isascii() else None
        if rule is None:
            raise ControlError(404, f"no rule {text}")
        return rule
