"""What the proxies share: a listener, and the two sides of a proxied connection.

A client has one connection to the upstream for each of its own, made when it connects. So what the network
does to one side, the other side sees: a close is a close, a reset a reset. An upstream that refuses is a
reset right after the connection was accepted, which is the nearest that a listener can do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from reattach.api.effects import Front
from reattach.api.witness import NewListener
from reattach.witness.sockets import has_end
from reattach.witness.world import Link, World

SENDER_GONE = "the sender is gone"
PEER_GONE = "the peer is gone"

HIGH_WATER = 1 << 20
"""Bytes that wait for a slow receiver before the other side is not read any more."""

_BACKLOG = 2048
_RESET = struct.pack("ii", 1, 0)


class Side(asyncio.Protocol):
    """One end. `ended` is called once, with whether it was reset.

    An end of the stream that the other program has sent counts as its going away, as it does for most
    servers; what is written to it is still sent.
    """

    def __init__(
        self,
        received: Callable[[bytes], None],
        ended: Callable[[bool], None],
        writable: Callable[[], None] = lambda: None,
    ) -> None:
        self._received = received
        self._ended = ended
        self._writable = writable
        self._transport: asyncio.Transport | None = None
        self._source: Side | None = None
        self._stopped: set[str] = set()
        self._is_over = False
        self._is_finished = False
        self.is_slow = False
        """Whether more waits to be sent than should."""
        self.was_reset = False

    def feeds_from(self, source: Side) -> None:
        """What is written here comes from there, and is not read while this side is slow."""
        self._source = source

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of it.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._stopped:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def eof_received(self) -> bool:
        self._end(False)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(exc is not None)
        self.resume_writing()

    def pause_writing(self) -> None:
        self.is_slow = True
        if self._source is not None:
            self._source.stop("slow")

    def resume_writing(self) -> None:
        self.is_slow = False
        if self._source is not None:
            self._source.resume("slow")
        self._writable()

    def _end(self, was_reset: bool) -> None:
        if not self._is_over:
            self._is_over = True
            self.was_reset = was_reset
            self._ended(was_reset)

    # What a proxy does with it

    @property
    def is_over(self) -> bool:
        """Whether nothing comes from there any more."""
        return self._is_over

    @property
    def is_gone(self) -> bool:
        """Whether the other program is known to be away, also if the loop has not come to hear of it."""
        return self._is_over or self._transport is None or _is_at_end(self._transport)

    def stop(self, why: str) -> None:
        """Reads no more until `resume` for every `why`."""
        if not self._stopped and self._transport is not None:
            self._transport.pause_reading()
        self._stopped.add(why)

    def resume(self, why: str) -> None:
        if why in self._stopped:
            self._stopped.remove(why)
            if not self._stopped and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def write(self, data: bytes | memoryview) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def finish(self) -> None:
        """Sends the end of the stream; the answer may still come."""
        if self._transport is not None and not self._transport.is_closing() and not self._is_finished:
            self._is_finished = True
            self._transport.write_eof()

    def close(self) -> None:
        """Closes when everything is sent."""
        self._is_over = True
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Resets it; what was not sent is lost."""
        self._is_over = True
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()


def _is_at_end(transport: asyncio.Transport) -> bool:
    # uvloop's socket cannot be read from.
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, 0, fileno=transport.get_extra_info("socket").fileno()
    )
    try:
        return has_end(sock)
    finally:
        sock.detach()


class ProxyConnection(Protocol):
    """A client's connection and what belongs to it."""

    client: Side

    def abort(self) -> None:
        """Resets the client's side."""

    def end(self) -> None:
        """Resets both sides, whatever is under way."""


class ProxyListener:
    """Takes connections for one pair of an actor and its peer."""

    def __init__(self, world: World, wanted: NewListener) -> None:
        self.world = world
        self.wanted = wanted
        self.loop = asyncio.get_running_loop()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[ProxyConnection] = set()

    async def open(self, connect: Callable[[ProxyListener], ProxyConnection]) -> None:
        """Raises OSError if the port is taken."""
        self._server = await self.loop.create_server(
            lambda: connect(self).client, "127.0.0.1", self.wanted.port, backlog=_BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def joined(self, connection: ProxyConnection, front: Front) -> Link:
        """A client is there."""
        self._connections.add(connection)
        return self.world.connect(self.wanted.actor, front, connection.abort)

    def left(self, connection: ProxyConnection, link: Link) -> None:
        self._connections.discard(connection)
        self.world.disconnect(link)

    async def reach_upstream(self, side: Side) -> None:
        """Raises OSError."""
        await self.loop.create_connection(lambda: side, self.wanted.upstream_host, self.wanted.upstream_port)

    def close(self) -> None:
        """Resets whoever is connected."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()
