"""The control API of worlds; `reattach.api.witness` describes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reattach.api.witness import NewClient, NewLabel, NewListener, NewMark, NewSteps, NewWorld, ProcessChange
from reattach.witness.s3.control_request import LONGEST_POLL, ControlError, Waits, body, number
from reattach.witness.s3.request import Request
from reattach.witness.worlds import WorldError, Worlds

Numbers = list[int]
Handler = Callable[[Request, Waits, Numbers], Awaitable[object]]


class WorldRoutes:
    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "worlds"): self._create,
            ("GET", "worlds/{}"): self._state,
            ("DELETE", "worlds/{}"): self._end,
            ("POST", "worlds/{}/listeners"): self._listen,
            ("POST", "worlds/{}/clients"): self._add_client,
            ("POST", "worlds/{}/processes"): self._change_process,
            ("POST", "worlds/{}/labels"): self._label,
            ("POST", "worlds/{}/marks"): self._mark,
            ("POST", "worlds/{}/steps"): self._add_steps,
            ("GET", "worlds/{}/steps"): self._steps,
            ("POST", "worlds/{}/steps/{}/release"): self._release,
            ("DELETE", "worlds/{}/steps/{}"): self._disarm,
            ("DELETE", "worlds/{}/steps"): self._clear_steps,
        }

    async def answer(self, request: Request, connection: Waits) -> object:
        """Raises ControlError."""
        parts = request.path.strip("/").split("/")[1:]
        numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 16]
        pattern = "/".join("{}" if part.isascii() and part.isdigit() else part for part in parts)
        handler = self._routes.get((request.method, pattern))
        if handler is None or len(numbers) != pattern.count("{}"):
            raise ControlError(404, "no such control request")
        try:
            return await handler(request, connection, numbers)
        except WorldError as e:
            raise ControlError(e.status, str(e)) from e

    async def _create(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.create(body(request, NewWorld))

    async def _state(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.state(numbers[0])

    async def _end(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.end(numbers[0])

    async def _listen(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return await self._worlds.listen(numbers[0], body(request, NewListener))

    async def _add_client(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.add_client(numbers[0], body(request, NewClient))

    async def _change_process(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.change_process(numbers[0], body(request, ProcessChange))

    async def _label(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.label(numbers[0], body(request, NewLabel))

    async def _mark(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.mark(numbers[0], body(request, NewMark))

    async def _add_steps(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.add_steps(numbers[0], body(request, NewSteps))

    async def _steps(self, request: Request, connection: Waits, numbers: Numbers) -> object:
        happened = int(number(request.query, "happened", 0))
        timeout = min(number(request.query, "timeout", 0), LONGEST_POLL)
        waiting = self._worlds.steps(numbers[0], happened, timeout)
        return await connection.wait(asyncio.ensure_future(waiting))

    async def _release(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.release(numbers[0], numbers[1])

    async def _disarm(self, request: Request, _: Waits, numbers: Numbers) -> object:
        release = number(request.query, "release", 1) > 0
        return self._worlds.disarm(numbers[0], numbers[1], release)

    async def _clear_steps(self, request: Request, _: Waits, numbers: Numbers) -> object:
        return self._worlds.clear_steps(numbers[0])
