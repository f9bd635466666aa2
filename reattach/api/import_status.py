"""The state of a shard's import, as the storage controller records it."""

from __future__ import annotations

import msgspec

from reattach.api import codec
from reattach.api.numbers import Count


class ShardImportProgress(msgspec.Struct, frozen=True):
    """How far a shard's import has come, and which plan it follows.

    jobs: number of jobs of the plan.
    completed: number of the last job whose result is durable; jobs are numbered from 1.
    import_plan_hash: XXH64 of the plan, the full u64 range.
    job_soft_size_limit: bytes; the limit that the plan was grouped by.
    """

    jobs: Count
    completed: Count
    import_plan_hash: int
    job_soft_size_limit: Count

    def __post_init__(self) -> None:
        if not 0 <= self.import_plan_hash < 2**64:
            raise ValueError(f"not a plan hash of 64 bits: {self.import_plan_hash}")


class ShardImportStatus:
    """Base of the three states. Use `InProgress`, `Done` and `Error`."""

    __slots__ = ()

    @property
    def is_terminal(self) -> bool:
        return not isinstance(self, InProgress)

    def to_json(self) -> object:
        raise NotImplementedError

    @staticmethod
    def from_json(value: object) -> ShardImportStatus:
        """Reads the tagged form. Raises ValueError (msgspec.ValidationError for a bad progress)."""
        if value == "Done":
            return Done()
        if isinstance(value, dict) and len(value) == 1:
            ((tag, body),) = value.items()
            if tag == "Error" and isinstance(body, str):
                return Error(body)
            if tag == "InProgress" and body is None:
                return InProgress(None)
            if tag == "InProgress" and isinstance(body, dict) and list(body) == ["V1"]:
                return InProgress(codec.convert(body["V1"], ShardImportProgress))
        raise ValueError(f"not a shard import status: {value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardImportStatus) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"ShardImportStatus({self.to_json()!r})"


class InProgress(ShardImportStatus):
    """Not finished; `progress` is None until the first checkpoint."""

    __slots__ = ("progress",)
    __match_args__ = ("progress",)

    def __init__(self, progress: ShardImportProgress | None = None) -> None:
        self.progress = progress

    def to_json(self) -> object:
        if self.progress is None:
            return {"InProgress": None}
        return {"InProgress": {"V1": codec.to_builtins(self.progress)}}


class Done(ShardImportStatus):
    """Every job's result is durable. Terminal."""

    __slots__ = ()

    def to_json(self) -> object:
        return "Done"


class Error(ShardImportStatus):
    """The import cannot succeed, for the reason in `message`. Terminal."""

    __slots__ = ("message",)
    __match_args__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    def to_json(self) -> object:
        return {"Error": self.message}
