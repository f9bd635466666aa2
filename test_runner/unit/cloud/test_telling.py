"""What a person is told of a running cloud."""

from __future__ import annotations

from reattach.fixtures.cloud.calls import CloudView, ImportView, ProcessView, ShardView
from reattach.fixtures.cloud.telling import changes

RUNS = ProcessView(name="pageserver_1", address="http://127.0.0.1:1", pid=7)
DOWN = ProcessView(
    name="pageserver_1", address="http://127.0.0.1:1", down="pageserver_1 was killed by SIGKILL"
)


def view(
    *shards: ShardView,
    process: ProcessView = RUNS,
    told: bool = False,
    gone: bool = False,
    error: str | None = None,
) -> CloudView:
    one = ImportView(tenant="a" * 32, timeline="b" * 32, shards=shards, told=told, gone=gone, error=error)
    return CloudView(processes=(process,), imports=(one,))


def lines(before: CloudView | None, now: CloudView) -> list[str]:
    return list(changes(before, now))


def test_nothing_new_is_not_told() -> None:
    same = view(ShardView(shard="0000", jobs=8, completed=4))
    assert lines(same, same) == []


def test_progress_of_one_shard() -> None:
    before = view(ShardView(shard="0002"), ShardView(shard="0102"))
    now = view(ShardView(shard="0002", jobs=8, completed=4), ShardView(shard="0102"))
    assert lines(before, now) == ["import bbbbbbbb: shard 0002 4 of 8 jobs"]


def test_an_import_that_came_and_went_between_two_looks() -> None:
    assert lines(CloudView(processes=()), view(told=True)) == [
        f"import bbbbbbbb: began, tenant {'a' * 32} timeline {'b' * 32}",
        "import bbbbbbbb: done, and the control plane knows",
    ]


def test_ends() -> None:
    assert lines(view(), view(told=True, error="the bucket has changed")) == [
        "import bbbbbbbb: failed: the bucket has changed"
    ]
    assert lines(view(), view(gone=True)) == ["import bbbbbbbb: was deleted before it ended"]


def test_processes() -> None:
    assert lines(view(), view(process=DOWN)) == [
        "pageserver_1 was killed by SIGKILL; `reattach start pageserver_1` starts it again"
    ]
    assert lines(view(process=DOWN), view()) == ["pageserver_1 runs as 7"]
    restarted = ProcessView(name="pageserver_1", address="http://127.0.0.1:1", pid=8)
    assert lines(view(), view(process=restarted)) == ["pageserver_1 runs as 8"]
