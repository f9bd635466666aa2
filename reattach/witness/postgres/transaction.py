"""The transaction that a session is in: what it has written so far, and what would commit it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from reattach.witness.postgres.sql import Kind, Statement

MOST_PARTS = 12
MOST_STATEMENTS = 100


@dataclass(frozen=True, slots=True)
class Commit:
    """What becomes durable together. parts: "insert orders". statements: as a history has them."""

    parts: tuple[str, ...]
    statements: tuple[str, ...]

    @property
    def target(self) -> str:
        """Its name: what it did, in order, each once, on one line."""
        once = list(dict.fromkeys(" ".join(part.split()) for part in self.parts))
        more = ["…"] if len(once) > MOST_PARTS else []
        return "; ".join([*once[:MOST_PARTS], *more])


@dataclass(slots=True)
class Transaction:
    """in_block: between BEGIN and its end. failed: it can only be rolled back."""

    in_block: bool = False
    failed: bool = False
    parts: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    savepoints: list[tuple[str, int]] = field(default_factory=list)

    def copy(self) -> Transaction:
        return replace(
            self,
            parts=list(self.parts),
            statements=list(self.statements),
            savepoints=list(self.savepoints),
        )

    def so_far(self, more: Sequence[Statement] = ()) -> Commit:
        """What a commit after `more` would make durable."""
        parts = [*self.parts, *(part for statement in more for part in statement.parts)]
        return Commit(tuple(parts), tuple([*self.statements, *(one.text for one in more)][:MOST_STATEMENTS]))

    def done(self, statement: Statement) -> None:
        """The server has carried it out."""
        match statement.kind:
            case Kind.BEGIN:
                self.in_block = True
            case Kind.COMMIT | Kind.ROLLBACK:
                self._over(statement.chain)
            case Kind.SAVEPOINT:
                self.savepoints.append((statement.name, len(self.parts)))
            case Kind.RELEASE:
                self._pop_savepoint(statement.name)
            case Kind.ROLLBACK_TO:
                self._roll_back_to(statement.name)
            case Kind.ALONE if not self.in_block:
                pass
            case _:
                self.parts += statement.parts
        if statement.kind not in (Kind.COMMIT, Kind.ROLLBACK) and len(self.statements) < MOST_STATEMENTS:
            self.statements.append(statement.text)

    def error(self) -> None:
        """The server has refused a statement."""
        if self.in_block:
            self.failed = True
        else:
            self._over(False)

    def ready(self, status: bytes) -> None:
        """The server waits for the next: idle (`I`), in a block (`T`), in one that has failed (`E`)."""
        if status == b"I":
            self._over(False)
        else:
            self.in_block = True
            self.failed = status == b"E"

    def commits(self, statements: Iterable[Statement]) -> Commit | None:
        """What becomes durable when a query of these is carried out and all of them succeed."""
        after = self.copy()
        found = list(after._commits(statements))
        if not found:
            return None
        return Commit(
            tuple(part for one in found for part in one.parts),
            tuple(text for one in found for text in one.statements)[:MOST_STATEMENTS],
        )

    def _commits(self, statements: Iterable[Statement]) -> Iterator[Commit]:
        for statement in statements:
            if self.failed and statement.kind not in (Kind.COMMIT, Kind.ROLLBACK, Kind.ROLLBACK_TO):
                return
            commit = self.commit_by(statement)
            if commit is not None:
                yield commit
            self.done(statement)
        if not self.in_block and self.parts:
            yield self.so_far()

    def commit_by(self, statement: Statement) -> Commit | None:
        """What this statement itself makes durable."""
        if statement.kind is Kind.COMMIT and self.parts and not self.failed:
            return self.so_far([statement])
        if statement.kind is Kind.ALONE and not self.in_block:
            return Commit(statement.parts, (statement.text,))
        return None

    def _over(self, chain: bool) -> None:
        self.in_block = chain
        self.failed = False
        self.parts.clear()
        self.statements.clear()
        self.savepoints.clear()

    def _pop_savepoint(self, name: str) -> int | None:
        for at in range(len(self.savepoints) - 1, -1, -1):
            if self.savepoints[at][0] == name:
                written = self.savepoints[at][1]
                del self.savepoints[at:]
                return written
        return None

    def _roll_back_to(self, name: str) -> None:
        written = self._pop_savepoint(name)
        if written is not None:
            del self.parts[written:]
            self.savepoints.append((name, written))
        self.failed = False
