"""The HTTP front end. What the network does to one side, the other side sees, see `reattach.witness.wire`."""

from __future__ import annotations

from reattach.api.witness import NewListener
from reattach.witness.http.connection import HttpConnection
from reattach.witness.wire import ProxyListener
from reattach.witness.world import World


async def open_listener(world: World, wanted: NewListener) -> ProxyListener:
    """A reverse proxy in front of `wanted`'s upstream. Raises OSError if the port is taken."""
    listener = ProxyListener(world, wanted)
    await listener.open(HttpConnection)
    return listener
