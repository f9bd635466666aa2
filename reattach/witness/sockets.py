"""What can be asked of a socket without reading from it."""

from __future__ import annotations

import socket


def has_end(sock: socket.socket) -> bool:
    """Whether the other program has closed its end, or died, and nothing that it sent is left to be read."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
