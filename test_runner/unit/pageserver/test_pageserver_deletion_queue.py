"""The deletion queue on a real directory, with a controller that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.lsn import Lsn
from reattach.api.remote_path import timeline_prefix
from reattach.api.upcall import ValidateTenant
from reattach.pageserver.metrics import Metrics
from reattach.pageserver.remote.deletion_queue import DeletionQueue
from reattach.pageserver.remote.local import LocalStorage

SHARD = TenantShardId.unsharded(TenantId("11" * 16))
TIMELINE = TimelineId("22" * 16)
PREFIX = timeline_prefix(SHARD, TIMELINE)


class Controller:
    def __init__(self, generation: int | None) -> None:
        self.generation = generation
        self.asked: list[list[ValidateTenant]] = []

    async def validate(self, tenants: Sequence[ValidateTenant]) -> dict[TenantShardId, bool]:
        self.asked.append(list(tenants))
        if self.generation is None:
            return {}
        return {each.id: each.gen == self.generation for each in tenants}


class Setup:
    """A queue on a directory that has three objects."""

    def __init__(self, directory: Path, generation: int | None = 1) -> None:
        self.directory = directory
        self.remote = directory / "remote"
        self.storage = LocalStorage(self.remote)
        self.controller = Controller(generation)
        self.metrics = Metrics()
        self.queue = self.new_queue()

    def new_queue(self) -> DeletionQueue:
        return DeletionQueue(
            self.directory / "deletion", self.storage, self.controller, self.metrics, sync=False
        )

    async def put(self, *names: str) -> None:
        for name in names:
            await self.storage.put(f"{PREFIX}/{name}", b"x")

    def objects(self) -> set[str]:
        folder = self.remote / PREFIX
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def lists(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "deletion").glob("*.list"))


def run(
    setup: Setup,
    test: Callable[[Setup], Awaitable[None]],
    *,
    attached: int | None = None,
    objects: Sequence[str] = ("a", "b", "c"),
) -> None:
    async def body() -> None:
        await setup.put(*objects)
        await setup.queue.recover({} if attached is None else {SHARD: attached})
        task = asyncio.create_task(setup.queue.run())
        async with asyncio.timeout(10):
            await test(setup)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(body())


def test_deletes_after_validation_and_leaves_no_list(tmp_path: Path) -> None:
    async def test(setup: Setup) -> None:
        setup.queue.push(SHARD, TIMELINE, 1, ["a", "b"])
        await setup.queue.flush()
        assert (setup.objects(), len(setup.lists())) == ({"a", "b", "c"}, 1)
        await setup.queue.flush_execute()
        assert (setup.objects(), setup.lists()) == ({"c"}, [])
        assert setup.metrics.deletions_executed.values[()] == 2

    run(Setup(tmp_path), test)


def test_two_generations_of_one_tenant_go_to_two_lists(tmp_path: Path) -> None:
    async def test(setup: Setup) -> None:
        setup.queue.push(SHARD, TIMELINE, 1, ["a"])
        setup.queue.push(SHARD, TIMELINE, 2, ["b"])
        await setup.queue.flush()
        assert len(setup.lists()) == 2
        await setup.queue.flush_execute()
        assert setup.objects() == {"a", "c"}

    run(Setup(tmp_path, generation=2), test)


def test_lsn_updates_count_only_in_the_valid_generation(tmp_path: Path) -> None:
    seen: list[Lsn] = []

    async def test(setup: Setup) -> None:
        setup.queue.push_lsn_update(SHARD, TIMELINE, 1, Lsn(0x10), seen.append)
        await setup.queue.flush_execute()
        assert seen == [Lsn(0x10)]
        setup.controller.generation = 2
        setup.queue.push_lsn_update(SHARD, TIMELINE, 1, Lsn(0x20), seen.append)
        await setup.queue.flush_execute()
        assert seen == [Lsn(0x10)]
        assert setup.metrics.dropped_lsn_updates.values[()] == 1

    run(Setup(tmp_path), test)


def crash(setup: Setup, validated: bool) -> None:
    """Persists a deletion of `a` in generation 1, and with `validated` has it confirmed, then stops."""

    async def body() -> None:
        await setup.put("a", "b", "c")
        await setup.queue.recover({})
        setup.queue.push(SHARD, TIMELINE, 1, ["a"])
        await setup.queue.flush()
        if validated:
            await setup.queue._validate()

    asyncio.run(body())


def recovered(setup: Setup, attached: int | None) -> set[str]:
    """What is left after the next process executed what it found."""

    async def test(setup: Setup) -> None:
        await setup.queue.flush_execute()

    setup.queue = setup.new_queue()
    run(setup, test, attached=attached, objects=())
    return setup.objects()


def test_recovery_in_the_next_generation_executes(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    crash(setup, validated=False)
    setup.controller.generation = 2
    assert recovered(setup, attached=2) == {"b", "c"}


def test_recovery_after_the_attachment_was_lost_drops(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    crash(setup, validated=False)
    setup.controller.generation = 2
    assert recovered(setup, attached=None) == {"a", "b", "c"}
    assert setup.metrics.deletions_dropped.values[()] == 1


def test_recovery_executes_what_was_validated_before(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    crash(setup, validated=True)
    setup.controller.generation = None
    assert recovered(setup, attached=None) == {"b", "c"}
    assert setup.lists() == []
