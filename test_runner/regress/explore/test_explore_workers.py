"""`reattach explore --workers`: processes that share the crash points, and one table of all."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from reattach.fixtures.explore.results import load_results
from test_runner.regress.explore.test_explore_postgres import run_cli

COPIER = Path(__file__).with_name("copier.py")


def explore(tmp_path: Path, bug: str, *more: str) -> tuple[int, str]:
    (tmp_path / "empty").mkdir()
    command = shlex.join([sys.executable, str(COPIER), "{bucket}", "6", "3", bug])
    options = ["--workers", "2", "--command", command, "--s3", "empty", "--failures", "1"]
    ended = run_cli("explore", *options, *more, cwd=tmp_path)
    return ended.returncode, ended.stdout + ended.stderr


def test_together_they_hit_every_cell(tmp_path: Path) -> None:
    code, said = explore(tmp_path, "", "--check", "true")
    assert code == 0, said
    results = load_results(tmp_path / "reattach-explore/explore")
    assert {cell.state for cell in results.table.cells} == {"hit"}
    kept = {run.name for run in results.runs}
    assert {cell.run for cell in results.table.cells} <= kept
    assert {name[:2] for name in kept} == {"1-", "2-"}
    assert f"cells: {len(results.table.cells)} hit, 0 unreachable, 0 not tried; 0 failures" in said
    assert [path.name for path in (tmp_path / "reattach-explore").iterdir() if "worker" in path.name] == []


def test_again_in_the_same_folder_beside_what_is_the_users(tmp_path: Path) -> None:
    mine = tmp_path / "reattach-explore/worker-1/mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("of the user")
    code, said = explore(tmp_path, "", "--check", "true", "--budget", "2")
    assert code == 0, said
    (tmp_path / "empty").rmdir()
    code, said = explore(tmp_path, "", "--check", "true", "--budget", "2")
    assert code == 0, said
    assert mine.read_text() == "of the user"
    runs = {run.name[:2] for run in load_results(tmp_path / "reattach-explore/explore").runs}
    assert runs == {"1-", "2-", "3-", "4-"}


def test_a_failure_of_either_is_told_with_its_test(tmp_path: Path) -> None:
    code, said = explore(tmp_path, "checkpoint first")
    assert code == 1, said
    (failure, *_) = load_results(tmp_path / "reattach-explore/explore").failures
    assert failure.verdicts.sentence in said
    assert f"  1. {failure.steps[0]}" in said
    assert failure.regression in said


def test_who_cannot_begin_says_why(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-c", "raise SystemExit('no such thing')"])
    (tmp_path / "empty").mkdir()
    ended = run_cli("explore", "--workers", "2", "--command", command, "--s3", "empty", cwd=tmp_path)
    assert ended.returncode not in (0, 3)
    assert "worker-1: " in ended.stderr
    assert "nobody interrupts it" in ended.stderr
