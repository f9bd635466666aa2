"""Proxies of the real witness process: jobs that are killed at their commits and requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_httpserver import HTTPServer

from reattach.api.effects import Front, Phase
from reattach.api.plan import PlanError, Step
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.postgres.databases import DatabaseServer
from reattach.fixtures.processes import Launcher
from reattach.fixtures.witness.world import World

SECONDS = 20.0

RIGHT = """
import sys, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
with connection.transaction():
    connection.execute("create table if not exists progress (done int)")
    connection.execute("create table if not exists rows (a int)")
done = connection.execute("select coalesce(max(done), 0) from progress").fetchone()[0]
for a in range(done + 1, 4):
    with connection.transaction():
        connection.execute("insert into rows values (%s)", [a])
        connection.execute("insert into progress values (%s)", [a])
"""

# Its checkpoint is durable before what it stands for.
WRONG = RIGHT.replace(
    """        connection.execute("insert into rows values (%s)", [a])
        connection.execute("insert into progress values (%s)", [a])
""",
    """        connection.execute("insert into progress values (%s)", [a])
    with connection.transaction():
        connection.execute("insert into rows values (%s)", [a])
""",
)

POSTER = """
import sys, urllib.request
for name in sys.argv[2:]:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1] + name, data=b"x", method="POST")).read()
"""


@pytest.fixture
def world(bucket_server: BucketServer, test_output_dir: Path) -> Iterator[World]:
    made = World(bucket_server.control, "test", test_output_dir / "history.jsonl")
    yield made
    made.close()


@pytest.fixture
def run(launcher: Launcher, world: World, test_output_dir: Path) -> Callable[..., int]:
    """Runs a program as `loader` to its end, and returns its status."""

    def start(program: str, *arguments: str) -> int:
        process = launcher.start(
            "loader", [sys.executable, "-c", program, *arguments], log_path=test_output_dir / "loader.log"
        )
        world.process_started("loader", process.pid)
        return process.wait(SECONDS)

    return start


@pytest.fixture
def dsn(database_server: DatabaseServer) -> Iterator[str]:
    database = database_server.create_database()
    yield database.url
    database_server.drop_database(database.name)


def commits(world: World) -> list[str]:
    return [str(effect.name) for effect in world.history().effects()]


def through_proxy(dsn: str, world: World) -> str:
    upstream = int(str(conninfo_to_dict(dsn)["port"]))
    port = world.listen(Front.POSTGRES, actor="loader", peer="db", port=upstream)
    return make_conninfo(dsn, host="127.0.0.1", port=port)


def rows_after_crash(
    program: str, at: str, when: Phase, world: World, run: Callable[..., int], dsn: str
) -> list[int]:
    """Kills the program at this commit, and runs it again to its end."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop table if exists progress, rows")
    port = world.listen(
        Front.POSTGRES, actor="loader", peer="db", port=int(str(conninfo_to_dict(dsn)["port"]))
    )
    proxied = make_conninfo(dsn, host="127.0.0.1", port=port)
    world.add_steps([Step(at=f"{at.rpartition(' #')[0]} +1", when=when, do=("kill loader",))])
    assert run(program, proxied) == -9
    assert run(program, proxied) == 0
    world.finish()
    with psycopg.connect(dsn) as connection:
        return [int(a) for (a,) in connection.execute("select a from rows order by a")]


def test_loader_killed_at_its_commits(world: World, run: Callable[..., int], dsn: str) -> None:
    """The right one resumes from both crash points, and the wrong one loses a row at two of four."""
    port = world.listen(
        Front.POSTGRES, actor="loader", peer="db", port=int(str(conninfo_to_dict(dsn)["port"]))
    )
    assert run(RIGHT, make_conninfo(dsn, host="127.0.0.1", port=port)) == 0
    create, *inserts = commits(world)
    assert create == "loader > db: commit create table progress; create table rows #1"
    assert inserts == [f"loader > db: commit insert rows; insert progress #{n}" for n in (1, 2, 3)]
    for when in Phase:
        assert rows_after_crash(RIGHT, inserts[0], when, world, run, dsn) == [1, 2, 3], when
    wrong = {
        (at, when): rows_after_crash(WRONG, f"loader > db: commit insert {at} #1", when, world, run, dsn)
        for at in ("progress", "rows")
        for when in Phase
    }
    assert wrong == {
        ("progress", Phase.BEFORE): [1, 2, 3],
        ("progress", Phase.AFTER): [2, 3],
        ("rows", Phase.BEFORE): [2, 3],
        ("rows", Phase.AFTER): [1, 2, 3],
    }


@pytest.mark.parametrize(("when", "seen"), [(Phase.BEFORE, ["/a"]), (Phase.AFTER, ["/a", "/b"])])
def test_poster_killed(
    when: Phase, seen: list[str], world: World, run: Callable[..., int], httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/a").respond_with_data("ok")
    httpserver.expect_request("/b").respond_with_data("ok")
    port = world.listen(Front.HTTP, actor="loader", peer="api", port=httpserver.port)
    world.add_steps([Step(at="loader > api: post /b #1", when=when, do=("kill loader",))])
    assert run(POSTER, f"http://127.0.0.1:{port}", "/a", "/b") == -9
    assert [request.path for request, _ in httpserver.log] == seen
    last = world.history().effects()[-1]
    assert (last.performed is not None) is (when is Phase.AFTER)
    assert last.dropped is not None
    assert last.dropped.why == "step 1: loader was killed"


def test_step_for_a_pair_without_proxy(world: World) -> None:
    world.listen(Front.HTTP, actor="loader", peer="api", port=1)
    with pytest.raises(PlanError, match="nothing goes loader > apy; the nearest that do are loader > api"):
        world.add_steps([Step(at="loader > apy: post /a #1", when=Phase.BEFORE, do=("drop",))])
