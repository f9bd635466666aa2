"""`reattach explore` of an import, as a person calls it."""

from __future__ import annotations

from pathlib import Path

from reattach.fixtures.cli.explore import NOTHING_HIT
from test_runner.regress.explore.test_explore_postgres import run_cli


def test_without_an_option_it_goes_where_it_was_called(tmp_path: Path) -> None:
    """Also below a path with a space. Without a moment to try anything nothing is hit."""
    here = tmp_path / "a project"
    here.mkdir()
    ended = run_cli("explore", "--budget", "0", cwd=here)
    assert ended.returncode == NOTHING_HIT, ended.stdout + ended.stderr
    assert (here / "reattach-explore/explore/coverage.txt").exists()
