"""Sends answers: from memory by send, from files by sendfile, cut where a fault says."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Literal

from reattach.api.bucket import LoggedRequest
from reattach.witness.s3.blob import FilePiece, Piece, piece_length, slice_piece
from reattach.witness.s3.responses import Response

log = logging.getLogger(__name__)

Ending = Literal["", "reset", "stall", "close"]
"""What follows when everything is out: the next request, or what a fault wants."""

# How much one connection may send before others get their turn.
_TURN = 4 << 20
# Bodies up to this size go out along with their head.
_SMALL = 16 * 1024


class Sender:
    """One answer at a time on a socket that does not block.

    `on_sent` is called when the answer, or as much of it as a fault allows, is with the network; `on_lost`
    when it cannot be delivered.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_sent: Callable[[Ending], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._on_sent = on_sent
        self._on_lost = on_lost
        self._out: deque[Piece] = deque()
        self._rest: deque[Piece] = deque()
        self._head_left = 0
        self._logged: LoggedRequest | None = None
        self._ending: Ending = ""
        self._writing = False
        self.stalled_by = 0

    def send(self, head: bytes, response: Response, logged: LoggedRequest) -> None:
        self._logged = logged
        self._ending = response.ending
        self.stalled_by = response.stalled_by
        self._out = deque(response.body.pieces)
        self._rest = deque()
        if response.cut_at is not None:
            self._out, self._rest = _cut(self._out, response.cut_at)
        self._head_left = len(head)
        first = self._out[0] if self._out else None
        if isinstance(first, memoryview) and len(first) <= _SMALL:
            self._out.popleft()
            head += first
        self._out.appendleft(memoryview(head))
        self._pump()

    def resume(self) -> None:
        """Sends what a stall held back."""
        if self._ending == "stall" and not self._out:
            self._ending = ""
            self._out, self._rest = self._rest, deque()
            self._pump()

    def stop(self) -> None:
        """Forgets what is not out yet."""
        self._out.clear()
        self._rest.clear()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _pump(self) -> None:
        out = self._out
        turn = _TURN
        try:
            while out and turn > 0:
                piece = out[0]
                if isinstance(piece, FilePiece):
                    sent = os.sendfile(self._fd, piece.fd, piece.offset, min(piece.length, _TURN))
                    if sent == 0:
                        raise OSError("a file became shorter while it was sent")
                else:
                    sent = self._sock.send(piece[:_TURN], socket.MSG_MORE if len(out) > 1 else 0)
                if sent == piece_length(piece):
                    out.popleft()
                else:
                    out[0] = slice_piece(piece, sent, piece_length(piece))
                turn -= sent
                self._count(sent)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as e:
            log.info("an answer was not delivered: %s", e)
            self._on_lost()
            return
        if out:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._fd, self._pump)
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        self._on_sent(self._ending)

    def _count(self, sent: int) -> None:
        of_head = min(sent, self._head_left)
        self._head_left -= of_head
        assert self._logged is not None
        self._logged.bytes_out += sent - of_head


def _cut(pieces: deque[Piece], size: int) -> tuple[deque[Piece], deque[Piece]]:
    """The first `size` bytes and the others."""
    first: deque[Piece] = deque()
    while pieces and size > 0:
        piece = pieces.popleft()
        length = piece_length(piece)
        if length > size:
            first.append(slice_piece(piece, 0, size))
            pieces.appendleft(slice_piece(piece, size, length))
            break
        first.append(piece)
        size -= length
    return first, pieces
