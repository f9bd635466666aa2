"""A loader that writes PostgreSQL, right and wrong, in a test and on the command line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.subjects.command import Command, TargetPostgres

HERE = Path(__file__).parent
LOADER = str(HERE / "loader.py")
ROWS, BATCH = 30, 10

MakeLoader = Callable[[str], Command]


@pytest.fixture
def loader(target_postgres: TargetPostgres) -> MakeLoader:
    target_postgres.prepare_file(HERE / "schema.sql")
    return lambda bug: Command(
        [sys.executable, LOADER, target_postgres.dsn, str(ROWS), str(BATCH), bug],
        check=lambda: target_postgres.assert_rows("t", ROWS, key="n"),
        through=[target_postgres],
        name="loader",
    )


def test_a_right_loader_survives(loader: MakeLoader, test_output_dir: Path) -> None:
    """Every cell of the table, by one process."""
    explorer = Explorer(loader("none"), test_output_dir / "explore")
    assert [tried.failure for tried in explorer.runs() if tried.failure is not None] == []
    report = explorer.report
    assert report.coverage.numbers()[1:] == (0, 0)
    # Before and after each of three commits, and what was in flight performed or dropped.
    assert report.coverage.numbers()[0] == 9


def test_a_wrong_loader_is_found(loader: MakeLoader, test_output_dir: Path) -> None:
    explorer = Explorer(loader("progress first"), test_output_dir / "explore")
    failure = next(tried.failure for tried in explorer.runs() if tried.failure is not None)
    assert len(failure.reduced.plan.steps) == 1
    assert "table t has 20 of 30 rows" in failure.reduced.result.sentence()
    assert failure.reduced.stable


def test_pieces_of_a_copy_are_crash_points_if_they_are_asked_for(
    target_postgres: TargetPostgres, test_output_dir: Path
) -> None:
    """Three commits, each after two messages; without them, three commits of one effect each."""
    target_postgres.prepare_file(HERE / "schema.sql")
    target_postgres.copy_chunks = True
    job = Command(
        [sys.executable, LOADER, target_postgres.dsn, str(ROWS), str(BATCH), "copies"],
        check=lambda: target_postgres.assert_rows("t", ROWS, key="n"),
        through=[target_postgres],
        name="loader",
    )
    explorer = Explorer(job, test_output_dir / "explore")
    assert [tried.failure for tried in explorer.runs() if tried.failure is not None] == []
    cells = explorer.report.coverage.cells
    assert {cell.effect for cell in cells} == {
        "loader > target: copy-data t",
        "loader > target: commit copy t; insert progress",
    }
    assert {cell.stage for cell in cells} == {0, 1, 2}
    assert explorer.report.coverage.numbers()[1:] == (0, 0)


def test_a_plan_is_for_the_next_test_run_too(loader: MakeLoader) -> None:
    """No port, database or folder of this one is in it."""
    program = Path(sys.executable).name
    assert loader("none").settings == {"command": f"{program} loader.py '{{target}}' {ROWS} {BATCH} none"}


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reattach.fixtures.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_on_the_command_line(tmp_path: Path) -> None:
    """Found without a check: the result is not that of an uninterrupted run. The plan's file repeats it."""
    loader = shlex.join([sys.executable, str(LOADER)])
    command = f"{loader} {{dsn}} {ROWS} {BATCH} 'two transactions'"
    arguments = ["explore", "--command", command, "--postgres", str(HERE / "schema.sql"), "--output", "out"]
    arguments += ["--failures", "1"]
    explored = run_cli(*arguments, cwd=tmp_path)
    assert explored.returncode == 1, explored.stdout + explored.stderr
    assert "table public.t: 40 rows" in explored.stdout
    plan = next((tmp_path / "out/explore/failures").glob("*/plan.json"))
    # To paste: not broken into lines.
    assert plan.with_name("regression.py").read_text() in explored.stdout
    assert f"reattach replay {plan}\n" in explored.stdout
    assert explored.stdout.endswith(f"{tmp_path / 'out/explore/coverage.html'}\n")
    assert len(json.loads(plan.read_text())["steps"]) == 1
    again = run_cli("replay", str(plan), "--times", "2", cwd=tmp_path)
    assert again.returncode == 1, again.stdout + again.stderr
    assert again.stdout.count("wrong result: ") == 2


def test_a_command_that_nobody_sees_is_not_explored(tmp_path: Path) -> None:
    schema = str(HERE / "schema.sql")
    ended = run_cli("explore", "--command", "true", "--postgres", schema, "--output", "out", cwd=tmp_path)
    assert ended.returncode == 1
    assert "no effect of the job passed the witness" in ended.stderr


def test_an_error_while_tidying_up_is_told(tmp_path: Path) -> None:
    """Not that pytest, which has no terminal here, broke over it."""
    script = (
        "from pathlib import Path\n"
        "from reattach.fixtures.cli.bench import BenchFailed, on_bench\n"
        "try:\n"
        "    on_bench(lambda request: request.addfinalizer(lambda: 1 / 0), Path('out'))\n"
        "except BenchFailed as e:\n"
        "    print(e)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert "TESTS_FAILED" in ended.stdout, ended.stdout + ended.stderr


def test_patience_is_as_long_as_it_is_told(tmp_path: Path) -> None:
    """Half a second, of a job that would do nothing for a minute."""
    schema = str(HERE / "schema.sql")
    settings = {"command": "sleep 60", "check": "true", "postgres": schema}
    (tmp_path / "plan.json").write_text(json.dumps({"subject": "job", "settings": settings, "steps": []}))
    explore = ["explore", "--command", "sleep 60", "--check", "true", "--postgres", schema]
    for arguments in (explore, ["replay", "plan.json"]):
        began = time.monotonic()
        ended = run_cli(*arguments, "--patience", "0.5", "--output", "out", cwd=tmp_path)
        assert ended.returncode == 1
        assert "stuck: it changed nothing any more" in ended.stdout + ended.stderr
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explore", "--command", "true"], "--s3, --postgres or --http is missing"),
        (["explore", "--command", "no-such-program", "--s3", "."], "there is no program 'no-such-program'"),
        (["explore", "--check", "true"], "are for a --command"),
        (["replay", "bad.json"], "bad.json: not a plan"),
        (["replay", "other.json"], "of a test, which repeats it with --explore-plan"),
    ],
)
def test_what_cannot_be_tried_is_told(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "other.json").write_text('{"subject": "loader", "settings": {"x": 1}, "steps": []}')
    ended = run_cli(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert says in ended.stderr
