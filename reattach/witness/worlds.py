"""All worlds of this process, whose S3 clients they are, and their listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reattach.api.effects import Front
from reattach.api.plan import PlanError
from reattach.api.witness import (
    ListenerState,
    NewClient,
    NewLabel,
    NewListener,
    NewMark,
    NewSteps,
    NewWorld,
    ProcessChange,
    StepsState,
    WorldState,
)
from reattach.witness.naming import BadNameRule
from reattach.witness.world import World

S3_PEER = "s3"


class WorldError(Exception):
    """A control request that cannot be carried out. status: an HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Listener(Protocol):
    """A proxy that takes connections."""

    port: int

    def close(self) -> None: ...


OpenListener = Callable[[World, NewListener], Awaitable[Listener]]
"""Raises OSError if the port is taken."""


@dataclass(slots=True)
class _Room:
    world: World
    peers: tuple[str, ...]
    listeners: list[Listener] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)


class Worlds:
    """What the control API and the S3 front end ask."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fronts: Mapping[Front, OpenListener]) -> None:
        self._loop = loop
        self._fronts = fronts
        self._rooms: dict[int, _Room] = {}
        self._last = 0
        self._clients: dict[str, tuple[World, str]] = {}

    def client(self, access_key: str) -> tuple[World, str] | None:
        """Whose S3 client this is: its world and the actor's name."""
        return self._clients.get(access_key)

    def create(self, wanted: NewWorld) -> WorldState:
        """Raises WorldError."""
        try:
            world = World(self._last + 1, wanted, self._loop)
        except BadNameRule as e:
            raise WorldError(400, str(e)) from e
        except OSError as e:
            raise WorldError(400, f"{wanted.history}: {e.strerror}") from e
        self._last += 1
        peers = {S3_PEER, *(r.peer for r in wanted.names if r.front is Front.S3 and r.peer is not None)}
        self._rooms[world.id] = _Room(world, tuple(peers))
        return world.state()

    def state(self, number: int) -> WorldState:
        return self._room(number).world.state()

    def end(self, number: int) -> WorldState:
        """Closes its listeners and its history."""
        room = self._room(number)
        state = room.world.state()
        for listener in room.listeners:
            listener.close()
        for key in room.clients:
            self._clients.pop(key, None)
        del self._rooms[number]
        room.world.close()
        return state

    def end_all(self) -> None:
        for number in list(self._rooms):
            self.end(number)

    async def listen(self, number: int, wanted: NewListener) -> ListenerState:
        room = self._room(number)
        front = self._fronts.get(wanted.front)
        if front is None:
            raise WorldError(400, f"there are no listeners for {wanted.front}")
        try:
            listener = await front(room.world, wanted)
        except OSError as e:
            raise WorldError(409, f"cannot listen on port {wanted.port}: {e.strerror}") from e
        room.listeners.append(listener)
        room.world.expect(wanted.actor, wanted.peer)
        return ListenerState(port=listener.port)

    def add_client(self, number: int, wanted: NewClient) -> WorldState:
        room = self._room(number)
        if wanted.access_key in self._clients:
            raise WorldError(409, f"the access key {wanted.access_key} is somebody's already")
        self._clients[wanted.access_key] = (room.world, wanted.actor)
        room.clients.append(wanted.access_key)
        for peer in room.peers:
            room.world.expect(wanted.actor, peer)
        return room.world.state()

    def change_process(self, number: int, change: ProcessChange) -> WorldState:
        world = self._room(number).world
        world.change_process(change)
        return world.state()

    def label(self, number: int, label: NewLabel) -> WorldState:
        world = self._room(number).world
        world.label(label)
        return world.state()

    def mark(self, number: int, mark: NewMark) -> WorldState:
        world = self._room(number).world
        world.mark(mark.what, mark.text, mark.facts)
        return world.state()

    def add_steps(self, number: int, wanted: NewSteps) -> StepsState:
        try:
            return self._room(number).world.add_steps(wanted)
        except PlanError as e:
            raise WorldError(400, str(e)) from e

    async def steps(self, number: int, happened: int, timeout: float) -> StepsState:
        world = self._room(number).world
        if happened:
            await world.wait_happened(happened, timeout)
        return world.steps_state()

    def release(self, number: int, step: int) -> StepsState:
        world = self._room(number).world
        try:
            world.release(step)
        except LookupError as e:
            raise WorldError(404, str(e.args[0])) from e
        return world.steps_state()

    def disarm(self, number: int, step: int, release: bool) -> StepsState:
        world = self._room(number).world
        try:
            world.disarm(step, release)
        except LookupError as e:
            raise WorldError(404, str(e.args[0])) from e
        return world.steps_state()

    def clear_steps(self, number: int) -> StepsState:
        return self._room(number).world.clear_steps()

    def _room(self, number: int) -> _Room:
        room = self._rooms.get(number)
        if room is None:
            raise WorldError(404, f"there is no world {number}")
        return room
