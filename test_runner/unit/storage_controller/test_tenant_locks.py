"""Locks by tenant."""

from __future__ import annotations

import asyncio

from reattach.storage_controller.tenant_locks import TenantLocks


async def _hold(locks: TenantLocks, kind: str, log: list[str], name: str, release: asyncio.Event) -> None:
    async with getattr(locks, kind)("t", name):
        log.append(f"+{name}")
        await release.wait()
    log.append(f"-{name}")


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_shared_together_exclusive_alone_in_order() -> None:
    async def scenario() -> list[str]:
        locks, log, release = TenantLocks(), list[str](), asyncio.Event()
        tasks = [
            asyncio.create_task(_hold(locks, kind, log, name, release))
            for kind, name in (("shared", "a"), ("shared", "b"), ("exclusive", "x"), ("shared", "c"))
        ]
        await _settle()
        assert log == ["+a", "+b"]
        release.set()
        await asyncio.gather(*tasks)
        assert locks._locks == {}
        return log

    assert asyncio.run(scenario()) == ["+a", "+b", "-a", "-b", "+x", "-x", "+c", "-c"]


def test_whoever_stops_waiting_leaves_the_queue() -> None:
    async def scenario() -> None:
        locks, log, release = TenantLocks(), list[str](), asyncio.Event()
        holder = asyncio.create_task(_hold(locks, "shared", log, "a", release))
        await _settle()
        waiting = asyncio.create_task(_hold(locks, "exclusive", log, "x", release))
        behind = asyncio.create_task(_hold(locks, "shared", log, "b", release))
        await _settle()
        assert log == ["+a"]
        waiting.cancel()
        await _settle()
        assert log == ["+a", "+b"]
        release.set()
        await asyncio.gather(holder, behind)
        assert locks._locks == {}

    asyncio.run(scenario())


def test_a_turn_that_comes_with_the_cancellation_is_passed_on() -> None:
    async def scenario() -> None:
        locks, log, release = TenantLocks(), list[str](), asyncio.Event()
        holder = asyncio.create_task(_hold(locks, "exclusive", log, "x", release))
        await _settle()
        waiting = asyncio.create_task(_hold(locks, "exclusive", log, "y", release))
        behind = asyncio.create_task(_hold(locks, "exclusive", log, "z", release))
        await _settle()
        release.set()
        # `y` gets its turn when `x` ends, in the same moment in which it is cancelled.
        holder.add_done_callback(lambda _: waiting.cancel())
        await asyncio.gather(holder, behind)
        assert "+z" in log
        assert locks._locks == {}

    asyncio.run(scenario())


def test_other_tenants_do_not_wait() -> None:
    async def scenario() -> None:
        locks = TenantLocks()
        async with locks.exclusive("t", "one"), locks.exclusive("u", "two"):
            assert len(locks._locks) == 2
        assert locks._locks == {}

    asyncio.run(scenario())
