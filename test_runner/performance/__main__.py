"""The benchmark: every figure of the design's budgets, both sides measured in one run.

scripts/bench                       all of it, as a table
scripts/bench --only import_local   one part
scripts/bench --save --plot         keep the figures, and draw all that were kept
scripts/bench --into docs/performance.md
"""

# ruff: noqa: T201 (printing is what it is for)

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reattach.fixtures.cli.bench import BenchFailed, on_bench
from test_runner.performance import (
    bench_bucket,
    bench_controller,
    bench_crowd,
    bench_environment,
    bench_explore,
    bench_fullbackup,
    bench_fuzz,
    bench_import,
    bench_plugin,
    bench_proxies,
    bench_resume,
    bench_suite,
    history,
)
from test_runner.performance.lab import ROOT, Lab
from test_runner.performance.machine import Machine
from test_runner.performance.report import Report, put_into
from test_runner.performance.result import Result

BENCHMARKS: dict[str, Callable[[Lab], Iterable[Result]]] = {
    "environment": bench_environment.ready,
    "restart": bench_environment.restart,
    "import_local": bench_import.local,
    "import_s3": bench_import.s3,
    "import_uuids": bench_import.hardly_compresses,
    "import_real": bench_import.real,
    "resume": bench_resume.interrupted,
    "memory": bench_import.memory,
    "growth_in_bytes": bench_import.growth_in_bytes,
    "growth_in_files": bench_import.growth_in_files,
    "small_files": bench_import.small_files,
    "bucket": bench_bucket.bucket,
    "postgres_proxy": bench_proxies.copy,
    "fullbackup": bench_fullbackup.measure,
    "controller": bench_controller.controller,
    "crowd": bench_crowd.crowd,
    "full_disks": bench_crowd.full_disks,
    "fuzz": bench_fuzz.fuzz,
    "explore": bench_explore.explorations,
    "plugin": bench_plugin.unused,
    "suite": bench_suite.import_resume,
}


def main() -> int:
    """Prints the results; the exit status says whether all benchmarks ran, not whether budgets hold."""
    arguments = _parse()
    if arguments.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:<18}{(benchmark.__doc__ or '').splitlines()[0]}")
        return 0
    chosen = [name for name in BENCHMARKS if _is_chosen(name, arguments.only)]
    if not chosen:
        print(f"bench: no benchmark is named {', '.join(arguments.only)}; see --list", file=sys.stderr)
        return 2
    report, failed = _run(chosen, arguments)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print(report.to_markdown() if arguments.markdown else report.to_table())
    if arguments.into:
        arguments.into.write_text(put_into(arguments.into.read_text(), report.to_markdown()))
    if arguments.save:
        history.append(arguments.history, report.to_json())
    if arguments.plot:
        arguments.plot.write_text(history.plot(history.load(arguments.history)))
        print(f"drew {arguments.plot}", file=sys.stderr)
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="say what can be measured")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="such as import_*")
    parser.add_argument("--quick", action="store_true", help="few runs and little data, to see that it works")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print all samples as JSON")
    output.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="also put the table into this document, between its markers"
    )
    parser.add_argument("--save", action="store_true", help="add the figures to the history")
    parser.add_argument(
        "--history", type=Path, default=ROOT / "bench_history.jsonl", metavar="FILE", help="where it is"
    )
    parser.add_argument(
        "--plot",
        type=Path,
        nargs="?",
        const=ROOT / "bench_history.svg",
        metavar="FILE",
        help="draw the history as SVG",
    )
    parser.add_argument("--requests", type=int, default=100_000, help="that the fuzzing sends")
    parser.add_argument("--directory", type=Path, help="for up to 8 GiB of data; by default the system's")
    return parser.parse_args()


def _is_chosen(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _run(names: list[str], arguments: argparse.Namespace) -> tuple[Report, list[str]]:
    """The report, and the names of the benchmarks that failed, which have told why."""
    at, machine = datetime.now(UTC).isoformat(timespec="seconds"), Machine.here()
    results: list[Result] = []
    failed: list[str] = []
    for name in names:
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr)
        # One lab for each: what one benchmark leaves behind must not slow down the next.
        try:
            _run_one(name, arguments, results)
        except BenchFailed as e:  # the figures of the others are worth having
            print(e, file=sys.stderr)
            failed.append(name)
        print(f"    after {time.monotonic() - began:.0f} s", file=sys.stderr)
    return Report(at, _commit(), machine, tuple(results)), failed


def _run_one(name: str, arguments: argparse.Namespace, results: list[Result]) -> None:
    def work(request: pytest.FixtureRequest) -> None:
        for result in BENCHMARKS[name](Lab(request, arguments.quick, arguments.requests)):
            results.append(result)
            print(f"    {result}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="reattach-bench-", dir=arguments.directory) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user if this is root
        on_bench(work, Path(folder), root=ROOT)


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
