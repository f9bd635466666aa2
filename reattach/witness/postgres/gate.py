"""The crash points of a session: its commits, and on request each message of a COPY to the server.

What would make a transaction durable is kept back until the world has decided: a query, the Execute of a
COMMIT, the Sync or the CopyDone that ends a transaction of its own. To know what would be committed,
everything before must have been answered, so the server is asked to send (Flush) what the client would get
with its next Sync. The client gets none of that before the commit's own answer.

A query with several COMMITs is one effect, which is at the end of its last COPY if it has any. A procedure,
which may commit on its way, is one that begins before it is executed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from reattach.api.history import Attributes
from reattach.witness.naming import Named
from reattach.witness.postgres.framing import FLUSH, ROLLBACK, error_response, text_at
from reattach.witness.postgres.session import EXECUTE, FUNCTION_CALL, QUERY, SYNC, Entry, Session
from reattach.witness.postgres.sql import Kind, Statement
from reattach.witness.postgres.transaction import Commit
from reattach.witness.wire import PEER_GONE, SENDER_GONE
from reattach.witness.world import Decision, Effect, Link, Verdict, World

COPY_DATA, COPY_DONE, COPY_FAIL, CLIENT_FLUSH = b"dcfH"

REFUSED = 500
"""The status of a commit that the server answered with an error."""

_FAIL_COPY = b"f\0\0\0\x0crefused\0"
_ROLLBACK = (Statement("ROLLBACK", Kind.ROLLBACK),)
_PLAIN = frozenset({Kind.READ, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO, Kind.BEGIN, Kind.PREPARE})


class Wires(Protocol):
    """What a gate asks of its connection."""

    def to_server(self, data: bytes) -> None: ...
    def to_client(self, data: bytes) -> None: ...

    def withhold(self) -> None:
        """The client gets nothing until `release`."""

    def release(self) -> None: ...

    def pump(self) -> None:
        """The gate is open again."""

    def reset(self) -> None:
        """Resets both sides."""

    def is_client_gone(self) -> bool: ...


@dataclass(slots=True, eq=False)
class _Point:
    """An effect, or what a name rule says is a read. entry: its end is the commit's; None if not sent yet."""

    kind: int
    message: bytes
    statements: tuple[Statement, ...]
    named: Named
    request: Attributes
    effect: Effect | None = None
    entry: Entry | None = None
    awaits_sync: bool = False


class Gate:
    """See the module."""

    def __init__(self, world: World, link: Link, peer: str, copy_chunks: bool, wires: Wires) -> None:
        self._world = world
        self._link = link
        self._peer = peer
        self._copy_chunks = copy_chunks
        self._wires = wires
        self._session = Session()
        self._is_draining = False
        self._point: _Point | None = None
        self._decision: Decision | None = None
        self._copy: tuple[Entry, Commit] | None = None
        # An error in place of the server's next answer, and whether to hide that it is ready then.
        self._error: bytes | None = None
        self._refused: int | None = None
        self._hides_ready = False
        self._discards = False

    @property
    def is_closed(self) -> bool:
        """Whether the client's messages wait."""
        return self._is_draining or (self._point is not None and not self._point.awaits_sync)

    @property
    def is_performing(self) -> bool:
        """Whether the server is about to do what an effect is."""
        return self._point is not None and self._decision is None

    # The client's messages

    def offer(self, kind: int, message: bytes) -> bool:
        """Sends it on, or keeps it. Returns whether it was taken; else it is to be offered again."""
        is_taken = self._offer(kind, message)
        if self._point is None and not self._is_draining:
            self._wires.release()
        return is_taken

    def _offer(self, kind: int, message: bytes) -> bool:
        session = self._session
        if self._discards:
            if kind == SYNC:
                self._discards = False
                self._send(kind, message)
            return True
        if session.skipping:
            self._send(kind, message)
            return True
        match kind:
            case _ if kind == QUERY:
                return self._query(message)
            case _ if kind == EXECUTE:
                return self._execute(message)
            case _ if kind == SYNC:
                return self._sync(message)
            case _ if kind == FUNCTION_CALL:
                if not self._drained():
                    return False
                commit = None if session.transaction.in_block else Commit(("function call",), ())
                self._send_or_meet(kind, message, commit)
            case _ if kind == COPY_DONE:
                self._copy_done(message)
            case _ if kind == COPY_DATA and self._copy_chunks and session.awaits_copy_data:
                self._meet(kind, message, "copy-data", session.copy_target, {"length": len(message) - 5})
            case _ if kind == COPY_FAIL:
                session.copy_ended()
                self._send(kind, message)
            case _:
                if kind == CLIENT_FLUSH and self._point is not None:
                    self._wires.release()
                self._send(kind, message)
        return True

    def _send(self, kind: int, message: bytes, statements: tuple[Statement, ...] = ()) -> Entry | None:
        self._wires.to_server(message)
        return self._session.sent(kind, message[5:], statements)

    def _drained(self) -> bool:
        """Whether everything is answered; else asks for it, and the client waits."""
        if not self._session.pending:
            return True
        self._is_draining = True
        self._wires.withhold()
        self._wires.to_server(FLUSH)
        return False

    def _query(self, message: bytes) -> bool:
        session = self._session
        statements = session.statements_of(text_at(message, 5)[0])
        if all(one.kind in _PLAIN for one in statements) and not session.may_have_written:
            self._send(QUERY, message, statements)
            return True
        if not self._drained():
            return False
        commit = session.transaction.commits(statements)
        if commit is not None and any(one.kind is Kind.COPY_IN for one in statements):
            entry = self._send(QUERY, message, statements)
            assert entry is not None
            self._copy = entry, commit
        else:
            self._copy = None
            self._send_or_meet(QUERY, message, commit, statements)
        return True

    def _execute(self, message: bytes) -> bool:
        session = self._session
        statement = session.executed(message[5:])
        ends = statement.kind is Kind.COMMIT and session.may_have_written
        if not ends and statement.kind not in (Kind.ALONE, Kind.CALL):
            self._send(EXECUTE, message)
            return True
        if not self._drained():
            return False
        transaction = session.transaction
        if statement.kind is Kind.CALL and not transaction.in_block:
            commit: Commit | None = transaction.so_far([statement])
        else:
            commit = transaction.commit_by(statement)
        self._send_or_meet(EXECUTE, message, commit, (statement,))
        return True

    def _sync(self, message: bytes) -> bool:
        session = self._session
        if session.copying:
            self._wires.to_server(message)  # which reads over it
            return True
        if self._point is not None:
            self._point.entry = self._send(SYNC, message)
            self._point.awaits_sync = False
            return True
        if not session.may_have_written or session.stays_in_block:
            self._send(SYNC, message)
            return True
        if not self._drained():
            return False
        transaction = session.transaction
        is_commit = bool(transaction.parts) and not transaction.in_block
        self._send_or_meet(SYNC, message, transaction.so_far() if is_commit else None)
        return True

    def _copy_done(self, message: bytes) -> None:
        session = self._session
        is_current = session.awaits_copy_data
        session.copy_ended()
        if self._copy is None or not is_current or session.awaits_copy_data:
            self._wires.to_server(message)
            return
        (entry, commit), self._copy = self._copy, None
        assert entry is session.pending[0]
        self._meet(COPY_DONE, message, "commit", commit.target, _request(commit), entry=entry)

    # The way of an effect

    def _send_or_meet(
        self, kind: int, message: bytes, commit: Commit | None, statements: tuple[Statement, ...] = ()
    ) -> None:
        if commit is None:
            self._send(kind, message, statements)
        else:
            self._meet(kind, message, "commit", commit.target, _request(commit), statements)

    def _meet(
        self,
        kind: int,
        message: bytes,
        method: str,
        target: str,
        request: Attributes,
        statements: tuple[Statement, ...] = (),
        entry: Entry | None = None,
    ) -> None:
        named = self._world.name(self._link, self._peer, method, target)
        self._point = point = _Point(kind, message, statements, named, request, entry=entry)
        self._wires.withhold()
        if self._world.is_mere_read(named):
            self._perform(point)
        else:
            point.effect = self._world.arrive(self._link, named, request)
            self._decide(self._world.before(point.effect), self._before)

    def _decide(self, decision: Decision, then: Callable[[Verdict], None]) -> None:
        if isinstance(decision, Verdict):
            then(decision)
            return

        def decided(_: object) -> None:
            if self._decision is decision:
                self._decision = None
                then(decision.result())
                self._wires.pump()

        self._decision = decision
        decision.add_done_callback(decided)

    def _before(self, verdict: Verdict) -> None:
        assert self._point is not None
        if verdict.dropped is not None:
            self._drop(verdict.dropped)
        elif verdict.status is not None:
            self._refuse(self._point, verdict.status)
        else:
            self._perform(self._point)

    def _perform(self, point: _Point) -> None:
        match point.kind:
            case _ if point.kind == COPY_DATA:
                self._wires.to_server(point.message)
                self._done(point, 0, {})
            case _ if point.kind == COPY_DONE:
                self._wires.to_server(point.message)
            case _ if point.kind == EXECUTE and point.statements[0].kind is Kind.CALL:
                point.awaits_sync = True
                self._send(EXECUTE, point.message)
            case _:
                point.entry = self._send(point.kind, point.message, point.statements)
                if point.kind == EXECUTE:
                    self._wires.to_server(FLUSH)

    def _refuse(self, point: _Point, status: int) -> None:
        """Has the server roll back, and gives the client an error."""
        self._error = error_response(status, f"the witness answers {status}")
        if point.kind in (COPY_DATA, COPY_DONE):
            self._session.copy_ended()
            self._wires.to_server(_FAIL_COPY)
            if point.kind == COPY_DATA:
                self._answered(point, status)
                return
        else:
            point.entry = Entry(QUERY, _ROLLBACK)
            self._session.pending.append(point.entry)
            self._wires.to_server(ROLLBACK)
            self._hides_ready = self._discards = point.kind == EXECUTE
        self._refused = status

    def _completed(self, point: _Point, entry: Entry) -> None:
        """The server has answered what was kept back."""
        if self._refused is not None:
            status, self._refused = self._refused, None
            self._answered(point, status)
            return
        answer: Attributes = {"tags": list(entry.tags)}
        if entry.sqlstate is not None:
            answer["sqlstate"] = entry.sqlstate
        self._done(point, 0 if entry.sqlstate is None else REFUSED, answer)

    def _done(self, point: _Point, status: int, answer: Attributes) -> None:
        if point.effect is None:
            self._world.read(self._link, point.named, point.request, status, answer)
            self._open()
            return
        self._world.performed(point.effect, status, answer)

        def after(verdict: Verdict) -> None:
            if verdict.dropped is not None:
                self._drop(verdict.dropped)
            elif self._wires.is_client_gone():
                self._drop(SENDER_GONE)
            else:
                self._answered(point, status)

        self._decide(self._world.after(point.effect), after)

    def _answered(self, point: _Point, status: int) -> None:
        if point.effect is not None:
            self._world.answered(point.effect, status)
        self._open()

    def _open(self) -> None:
        self._point = None
        self._wires.release()

    def _drop(self, why: str) -> None:
        self._forget(why)
        self._wires.reset()

    def _forget(self, why: str) -> None:
        point, self._point, self._decision = self._point, None, None
        if point is not None and point.effect is not None:
            self._world.dropped(point.effect, why)

    # The server's messages

    def seen(self, kind: bytes, message: bytes) -> None:
        """Hands it to the client, and notes what it means."""
        self._wires.to_client(self._replaced(kind, message))
        entry = self._session.received(kind, message[5:])
        must_send = kind == b"G" and self._session.copying
        if must_send or not self._session.pending:
            self._is_draining = False
        if must_send:
            self._wires.release()
        if entry is not None and self._point is not None and entry is self._point.entry:
            self._completed(self._point, entry)

    def _replaced(self, kind: bytes, message: bytes) -> bytes:
        if self._error is not None:
            if kind == b"N":
                return b""
            if kind in (b"C", b"E"):
                error, self._error = self._error, None
                return error
        elif self._hides_ready and kind == b"Z":
            self._hides_ready = False
            return b""
        return message

    # Ends

    def client_left(self) -> None:
        """Whoever waits at a crash point waits for nobody."""
        if self._decision is not None:
            self._drop(SENDER_GONE)

    def server_left(self) -> bool:
        """Returns whether an answer that is there already may still go to the client."""
        if self._point is not None and self._point.effect is not None and self._point.effect.is_performed:
            return True
        self._is_draining = False
        self._forget(PEER_GONE)
        self._wires.release()
        return False

    def end(self) -> None:
        """The world is over."""
        self._forget("the world has ended")


def _request(commit: Commit) -> Attributes:
    return {"statements": list(commit.statements)}
