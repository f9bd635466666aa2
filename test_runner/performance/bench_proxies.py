"""COPY through the witness's PostgreSQL proxy against a direct connection, by psql, one after the other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reattach.api.effects import Front
from reattach.fixtures.witness.world import World
from test_runner.performance.lab import Lab
from test_runner.performance.result import Result, Side, as_fast_as, at_least

MIB = 1 << 20
RUNS = 5
BUDGET = at_least(0.7)
SECONDS = 300.0
_ROWS = "select a, repeat(md5(a::text), 3) as b from generate_series(1, {}) as a"


def copy(lab: Lab) -> list[Result]:
    """COPY to and from a client, rows of about 100 bytes, in MiB of text a second."""
    database = lab.databases.create_database()
    rows = 100_000 if lab.quick else 2_000_000
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"create unlogged table source as {_ROWS.format(rows)}".encode())
        connection.execute("create unlogged table target (like source)")
    world = World(lab.bucket.control, "bench", lab.path("history"))
    try:
        upstream = int(str(conninfo_to_dict(database.url)["port"]))
        port = world.listen(Front.POSTGRES, actor="psql", peer="database", port=upstream)
        sides = {"direct": database.url, "proxied": make_conninfo(database.url, host="127.0.0.1", port=port)}
        text = lab.path("rows")
        _psql(lab, database.url, "copy source to stdout", text)
        size = text.stat().st_size / MIB

        def out(dsn: str) -> None:
            _psql(lab, dsn, "copy source to stdout", Path("/dev/null"))

        def into(dsn: str) -> None:
            _psql(lab, dsn, f"\\copy target from {text}", Path("/dev/null"))

        def empty() -> None:
            _psql(lab, database.url, "truncate target", Path("/dev/null"))

        return [
            _compare("PostgreSQL proxy: COPY to the client", lab, sides, size, out, lambda: None),
            _compare("PostgreSQL proxy: COPY to the server", lab, sides, size, into, empty),
        ]
    finally:
        world.close()
        lab.databases.drop_database(database.name)


def _compare(
    what: str,
    lab: Lab,
    sides: dict[str, str],
    size: float,
    run: Callable[[str], None],
    prepare: Callable[[], None],
) -> Result:
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in lab.runs(RUNS):
        for name, dsn in sides.items():
            prepare()
            began = time.perf_counter()
            run(dsn)
            rates[name].append(size / (time.perf_counter() - began))
    proxied, direct = (Side(name, "MiB/s", tuple(rates[name])) for name in ("proxied", "direct"))
    return as_fast_as(what, proxied, direct, BUDGET)


def _psql(lab: Lab, dsn: str, command: str, output: Path) -> None:
    with output.open("wb") as file:
        subprocess.run(
            [lab.pg_bin.distribution.program("psql"), dsn, "-q", "-v", "ON_ERROR_STOP=1", "-c", command],
            env=lab.pg_bin.distribution.environment(),
            stdout=file,
            check=True,
            timeout=SECONDS,
        )
