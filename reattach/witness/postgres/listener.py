"""The PostgreSQL front end. What the network does to one side, the other side sees, see
`reattach.witness.wire`.
"""

from __future__ import annotations

from reattach.api.witness import NewListener
from reattach.witness.postgres.connection import PostgresConnection
from reattach.witness.wire import ProxyListener
from reattach.witness.world import World


async def open_listener(world: World, wanted: NewListener) -> ProxyListener:
    """A proxy in front of `wanted`'s server. Raises OSError if the port is taken."""
    listener = ProxyListener(world, wanted)
    await listener.open(PostgresConnection)
    return listener
