"""A client's connection through an HTTP proxy: one request after the other, each to its end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from reattach.api.effects import Front
from reattach.api.history import Attributes
from reattach.witness.http.answer import Answer
from reattach.witness.http.messages import NotHttp, Request, RequestReader
from reattach.witness.naming import Named
from reattach.witness.wire import PEER_GONE, SENDER_GONE, ProxyListener, Side
from reattach.witness.world import Decision, Effect, Verdict

log = logging.getLogger(__name__)

MADE_HERE = "x-reattach-witness"
"""A header of answers that the witness has made; its value says why."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MANY = 16


class HttpConnection:
    """The client's side and the upstream's, and the task that takes requests from one to the other."""

    def __init__(self, listener: ProxyListener) -> None:
        self._listener = listener
        self._world = listener.world
        self.client = Side(self._from_client, self._ended, self._wake)
        self._upstream = Side(self._from_upstream, self._ended, self._wake)
        self.client.feeds_from(self._upstream)
        self._upstream.feeds_from(self.client)
        self._link = listener.joined(self, Front.HTTP)
        self._reader = RequestReader(self._requested, self._expects_continue)
        self._requests: deque[Request] = deque()
        self._answer: Answer | None = None
        self._is_busy = False
        self._is_cut = False
        self._owes_continue = False
        self._not_http: str | None = None
        self._waker: asyncio.Future[None] | None = None
        self._task = listener.loop.create_task(self._run())

    def abort(self) -> None:
        self.client.reset()
        self._wake()

    def end(self) -> None:
        self._task.cancel()

    # What comes in

    def _from_client(self, data: bytes) -> None:
        if self._not_http is None:
            try:
                self._reader.feed(data)
            except NotHttp as e:
                self._not_http = str(e)
                self._wake()

    def _requested(self, request: Request) -> None:
        self._requests.append(request)
        if len(self._requests) >= _MANY:
            self.client.stop("many requests")
        self._wake()

    def _expects_continue(self) -> None:
        # The whole request must come before anybody can decide about it.
        self._owes_continue = True
        self._pay_continue()

    def _pay_continue(self) -> None:
        if self._owes_continue and not self._requests and not self._is_busy:
            self._owes_continue = False
            self.client.write(_CONTINUE)

    def _from_upstream(self, data: bytes) -> None:
        try:
            if self._answer is None:
                raise NotHttp("the peer answers what nobody has asked")
            self._answer.feed(data)
        except NotHttp as e:
            log.warning("%s > %s: %s", self._link.actor, self._listener.wanted.peer, e)
            self._upstream.reset()
            self._upstream.was_reset = True
        self._wake()

    def _ended(self, was_reset: bool) -> None:
        if self._upstream.is_over and not was_reset and self._answer is not None:
            self._answer.end_of_stream()
        self._wake()

    # Waiting

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._waker = self._listener.loop.create_future()
            await self._waker

    async def _decided(self, decision: Decision) -> Verdict:
        """The verdict, or that the client did not stay for it."""
        if isinstance(decision, Verdict):
            return decision
        decision.add_done_callback(lambda _: self._wake())
        await self._until(lambda: decision.done() or self.client.is_over)
        return decision.result() if decision.done() else Verdict(dropped=SENDER_GONE)

    # The way of a request

    async def _run(self) -> None:
        try:
            try:
                await self._listener.reach_upstream(self._upstream)
            except OSError:
                self.client.reset()
                return
            while await self._serve_next():
                self._pay_continue()
        except asyncio.CancelledError:
            self.client.reset()
        except Exception:
            log.exception("a connection of %s failed", self._link.actor)
            self.client.reset()
        finally:
            self._close()

    def _close(self) -> None:
        """Does to one side what happened to the other."""
        if self._upstream.was_reset or self.client.was_reset:
            self.client.reset()
            self._upstream.reset()
        self.client.close()
        self._upstream.close()
        self._reader.close()
        for request in self._requests:
            request.close()
        self._listener.left(self, self._link)

    async def _serve_next(self) -> bool:
        """Returns whether another may follow."""
        await self._until(
            lambda: bool(self._requests or self._not_http or self._upstream.is_over or self.client.is_over)
        )
        if not self._requests:
            if self._not_http is not None and not self._upstream.is_over:
                self._make_answer(HTTPStatus.BAD_REQUEST, self._not_http, "not HTTP", "")
            return False
        if self._upstream.is_over:
            # It was sent to a connection that is no more.
            self.client.reset()
            return False
        request = self._requests.popleft()
        self.client.resume("many requests")
        self._is_busy = True
        try:
            return await self._serve(request) and not self._is_cut
        finally:
            self._is_busy = False
            request.close()

    async def _serve(self, request: Request) -> bool:
        path, query, target = _split(request.target)
        attributes: Attributes = {"method": request.method, "path": path}
        if query:
            attributes["query"] = query
        attributes |= request.record.attributes()
        named = self._world.name(
            self._link, self._listener.wanted.peer, request.method, target, request.record.small()
        )
        if self._world.is_mere_read(named):
            return await self._serve_read(request, named, attributes)
        effect = self._world.arrive(self._link, named, attributes)
        try:
            return await self._serve_effect(request, effect)
        finally:
            self._world.dropped(effect, "the world has ended")  # nothing if it is over

    async def _serve_read(self, request: Request, named: Named, attributes: Attributes) -> bool:
        answer = await self._forward(request, lambda: self.client.is_over)
        if not answer.is_complete:
            answer.release()
            await self._until(lambda: answer.is_complete or self._upstream.is_over or self.client.is_over)
        if answer.is_complete:
            self._world.read(self._link, named, attributes, answer.status, answer.attributes())
        answer.release()
        return answer.is_complete

    async def _serve_effect(self, request: Request, effect: Effect) -> bool:
        verdict = await self._decided(self._world.before(effect))
        if verdict.dropped is not None:
            return self._drop(effect, verdict.dropped)
        if verdict.status is not None:
            self._world.answered(effect, verdict.status)
            self._make_answer(verdict.status, f"the witness answers {verdict.status}", "step", request.method)
            return request.keep_alive
        answer = await self._forward(request)
        if not answer.has_come:
            self._world.dropped(effect, PEER_GONE)
            answer.release()
            return False
        self._world.performed(effect, answer.status, answer.attributes())
        verdict = await self._decided(self._world.after(effect))
        if verdict.dropped is not None:
            return self._drop(effect, verdict.dropped)
        if self.client.is_gone:
            return self._drop(effect, SENDER_GONE)
        self._world.answered(effect, answer.status)
        answer.release()
        await self._until(lambda: answer.is_complete or self._upstream.is_over or self.client.is_over)
        return answer.is_complete

    async def _forward(self, request: Request, given_up: Callable[[], bool] = lambda: False) -> Answer:
        """Sends it, and waits until the answer has come, or there will be none, or nobody wants it."""
        self._answer = answer = Answer(request.method, self.client, self._upstream)
        for piece in request.pieces():
            self._upstream.write(piece)
            await self._until(lambda: not self._upstream.is_slow or answer.has_come)
            if self._upstream.is_slow:
                # It has answered and does not read on, so nothing can follow on this connection.
                self._is_cut = True
                break
        await self._until(lambda: answer.has_come or self._upstream.is_over or given_up())
        return answer

    def _drop(self, effect: Effect, why: str) -> bool:
        self._world.dropped(effect, why)
        self.client.reset()
        self._upstream.reset()
        return False

    def _make_answer(self, status: int, message: str, why: str, method: str) -> None:
        body = b"" if status in (204, 304) else msgspec.json.encode({"msg": message})
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {status} {phrase}", f"{MADE_HERE}: {why}"]
        if status not in (204, 304):
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.client.write(head if method == "HEAD" else head + body)


def _split(target: str) -> tuple[str, str, str]:
    """Path, query, and both, of a request's target in any form."""
    if not target.startswith("/"):
        parts = urlsplit(target)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = target.partition("?")
    return path, query, target
