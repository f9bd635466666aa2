"""Accepts the clients of the libpq port."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from reattach.pageserver.page_service.connection import CheckPassword, Connection, OpenBackup

log = logging.getLogger(__name__)

_BACKLOG = 128
_RETRY_SECONDS = 0.1
_TRANSIENT = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


async def serve_page_service(
    sock: socket.socket, open_backup: OpenBackup, check_password: CheckPassword | None = None
) -> None:
    """Serves clients on a bound socket until it is cancelled; then every client is cut off.

    check_password: without it every client is trusted.
    """
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as clients:
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError as e:
                if e.errno not in _TRANSIENT:
                    raise
                log.warning("cannot accept a libpq client: %s", e)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            clients.create_task(_serve_client(client, open_backup, check_password))


async def _serve_client(
    client: socket.socket, open_backup: OpenBackup, check_password: CheckPassword | None
) -> None:
    with client:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await Connection(client, open_backup, check_password).run()
