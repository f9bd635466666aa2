"""`reattach explore` of an import, as a person calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reattach.fixtures.cli.explore_report import NOTHING_HIT
from test_runner.regress.explore.test_explore_postgres import run_cli


def test_it_goes_where_it_was_called_and_minds_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a path with a space, without an option, beside plugins and settings that would end any pytest.

    Without a moment to try anything nothing is hit.
    """
    here = tmp_path / "a project"
    plugin = here / "bad-1.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[pytest11]\nbad = bad\n")
    for name in ("bad.py", "conftest.py"):
        (here / name).write_text("raise RuntimeError(__file__)\n")
    (here / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.setenv("PYTHONPATH", str(here))
    monkeypatch.setenv("PYTEST_PLUGINS", "bad")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    ended = run_cli("explore", "--budget", "0", cwd=here)
    assert ended.returncode == NOTHING_HIT, ended.stdout + ended.stderr
    page = here / "reattach-explore/explore/coverage.html"
    assert "no crash point was hit" in page.read_text()
    summary, told = ended.stdout.splitlines()[-2:]
    assert (summary[:6], told) == ("0 runs", str(page))
