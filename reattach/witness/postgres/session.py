"""What a session has asked for and not been told yet, and what that does to its transaction. Pure.

Everything that the client sends and that has an answer of its own is an entry, in order; the server's
messages take them away again. So it is known when a statement was carried out, of a pipeline too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from reattach.witness.postgres.framing import sqlstate_in, text_at
from reattach.witness.postgres.sql import UNKNOWN, Kind, Statement, parse
from reattach.witness.postgres.transaction import Transaction

PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC, QUERY, FUNCTION_CALL = b"PBDECSQF"
_ANSWER_READY = (QUERY, SYNC, FUNCTION_CALL)

NOTHING = Statement("", Kind.READ)
_FUNCTION_CALL = Statement("(function call)", Kind.WRITE, ("function call",))
_WRITING = frozenset({Kind.WRITE, Kind.ALONE, Kind.CALL, Kind.COPY_IN})
_ENDING = frozenset({Kind.COMMIT, Kind.ROLLBACK})


@dataclass(slots=True, eq=False)
class Entry:
    """One message of the client. statements: of a query all, else the one that is executed."""

    kind: int
    statements: tuple[Statement, ...] = ()
    carried_out: int = 0
    copies_begun: int = 0
    copies_ended: int = 0
    tags: list[str] = field(default_factory=list)
    sqlstate: str | None = None

    def has(self, kinds: frozenset[Kind]) -> bool:
        return any(statement.kind in kinds for statement in self.statements)


class Session:
    """See the module. copying: between CopyInResponse and the end of the data.

    skipping: the server ignores everything until Sync.
    """

    def __init__(self) -> None:
        self.transaction = Transaction()
        self.pending: deque[Entry] = deque()
        self.skipping = False
        self.copying = False
        # SQL's PREPARE and the protocol's Parse share their names.
        self._statements: dict[str, Statement] = {}
        self._portals: dict[str, Statement] = {}

    # What the client sends

    def statements_of(self, text: str) -> tuple[Statement, ...]:
        """Of a query, with what it prepares and executes looked up."""
        return tuple(self._resolved(parse(text)))

    def executed(self, body: bytes) -> Statement:
        """What an Execute message is about."""
        portal, _ = text_at(body, 0)
        return self._portals.get(portal, UNKNOWN)

    def _resolved(self, statements: Iterable[Statement]) -> Iterator[Statement]:
        for statement in statements:
            if statement.kind is Kind.PREPARE and statement.prepared is not None:
                self._statements[statement.name] = statement.prepared
            if statement.kind is Kind.EXECUTE:
                yield replace(self._statements.get(statement.name, UNKNOWN), text=statement.text)
            else:
                yield statement

    @property
    def may_have_written(self) -> bool:
        """Whether there is something that a commit would make durable, if all goes well."""
        return bool(self.transaction.parts) or any(entry.has(_WRITING) for entry in self.pending)

    @property
    def stays_in_block(self) -> bool:
        """Whether a Sync surely commits nothing."""
        return self.transaction.in_block and not any(entry.has(_ENDING) for entry in self.pending)

    def sent(self, kind: int, body: bytes, statements: tuple[Statement, ...] = ()) -> Entry | None:
        """The message goes to the server. Returns its entry; None if it has no answer."""
        if self.skipping and kind != SYNC:
            return None
        match kind:
            case _ if kind == PARSE:
                name, at = text_at(body, 0)
                text, _ = text_at(body, at)
                self._statements[name] = next(iter(self.statements_of(text)), NOTHING)
            case _ if kind == BIND:
                portal, at = text_at(body, 0)
                name, _ = text_at(body, at)
                self._portals[portal] = self._statements.get(name, UNKNOWN)
            case _ if kind == EXECUTE:
                statements = (self.executed(body),)
            case _ if kind == CLOSE and body[:1] == b"S":
                self._statements.pop(text_at(body, 1)[0], None)
            case _ if kind == FUNCTION_CALL:
                statements = (_FUNCTION_CALL,)
            case _ if kind not in (DESCRIBE, CLOSE, SYNC, QUERY):
                return None
        entry = Entry(kind, statements)
        self.pending.append(entry)
        return entry

    def _copy_entry(self) -> Entry | None:
        for entry in self.pending:
            wanted = sum(statement.kind is Kind.COPY_IN for statement in entry.statements)
            if entry.sqlstate is None and entry.copies_ended < wanted:
                return entry
        return None

    @property
    def awaits_copy_data(self) -> bool:
        """Whether COPY data of the client belong to what is under way. Some send them at once, with the end,
        before the server says that it waits for them.
        """
        return self._copy_entry() is not None

    def copy_ended(self) -> None:
        """The client says that all data are there, or that there will be no more."""
        entry = self._copy_entry()
        if entry is not None:
            entry.copies_ended += 1
        self.copying = False

    @property
    def copy_target(self) -> str:
        """The table that data are for."""
        entry = self._copy_entry()
        assert entry is not None
        copies = [one for one in entry.statements if one.kind is Kind.COPY_IN]
        return copies[entry.copies_ended].parts[0].removeprefix("copy ")

    # What the server sends

    def received(self, kind: bytes, body: bytes) -> Entry | None:
        """Returns the entry that is over by this."""
        head = self.pending[0] if self.pending else None
        match kind:
            case b"Z":
                return self._ready(body)
            case b"E":
                return self._error(body)
            case b"G" if head is not None:
                head.copies_begun += 1
                self.copying = head.copies_begun > head.copies_ended
                if self.copying:
                    # The server reads over a Sync that comes before the data.
                    kept = [entry for entry in self.pending if entry is head or entry.kind != SYNC]
                    self.pending = deque(kept)
            case b"1" | b"2" | b"3" if head is not None:
                return self.pending.popleft()
            case b"T" | b"n" if head is not None and head.kind == DESCRIBE:
                return self.pending.popleft()
            case b"V" if head is not None:
                self.transaction.done(_FUNCTION_CALL)
            case b"C" | b"s" | b"I" if head is not None:
                if kind == b"C":
                    head.tags.append(text_at(body, 0)[0])
                if kind != b"I" and head.carried_out < len(head.statements):
                    self.transaction.done(head.statements[head.carried_out])
                    head.carried_out += 1
                if head.kind == EXECUTE:
                    return self.pending.popleft()
        return None

    def _ready(self, status: bytes) -> Entry | None:
        self.skipping = self.copying = False
        self.transaction.ready(status)
        while self.pending:
            entry = self.pending.popleft()
            if entry.kind in _ANSWER_READY:
                return entry
        return None

    def _error(self, body: bytes) -> Entry | None:
        self.copying = False
        self.transaction.error()
        if not self.pending:
            return None
        head = self.pending[0]
        head.sqlstate = sqlstate_in(body)
        if head.kind in _ANSWER_READY:
            return None
        self.skipping = True
        while self.pending and self.pending[0].kind != SYNC:
            self.pending.popleft()
        return head
