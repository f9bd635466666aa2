"""`reattach show` draws the import of a history that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from reattach.api.history import encode_line
from reattach.fixtures.cli.main import main
from reattach.fixtures.picture.neon import draw_imports
from test_runner.unit.judge.story import interrupted


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(map(encode_line, interrupted().lines)))
    return path


@pytest.mark.parametrize("output", [None, "there.html"])
def test_it_draws_one_file(history: Path, output: str | None) -> None:
    """Beside the history, or where it is told."""
    target = history.with_suffix(".html") if output is None else history.with_name(output)
    options = [] if output is None else ["--output", str(target)]
    result = CliRunner().invoke(main, ["show", str(history), *options])
    assert (result.exit_code, result.output) == (0, f"{target}\n")
    text = target.read_text()
    assert "shard 0000" in text and "invariants held" in text and "Everything that happened" in text


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "history.jsonl"
    bad.write_text("{}\n")
    result = CliRunner().invoke(main, ["show", str(bad)])
    assert result.exit_code == 2
    assert "history.jsonl, line 1" in result.output


def test_an_import_is_drawn_as_it_went() -> None:
    """Jobs that were started, done, and done again; checkpoints; who did it in which generation."""
    story = interrupted()
    (lane,) = draw_imports(story.history()).lanes
    assert [stretch.label for stretch in lane.stretches] == [
        "pageserver_1, generation 1",
        "pageserver_1, generation 2",
    ]
    first, second = lane.stretches
    assert first.end <= second.start
    assert [bar.row for bar in lane.bars if bar.start < first.end] == [1, 2, 3, 4, 5, 6]
    assert [bar.row for bar in lane.bars if bar.again] == [5, 6]
    assert all(bar.end is not None and bar.effect is not None for bar in lane.bars)
    assert [(one.row, one.text.partition(" was")[0]) for one in lane.milestones] == [
        *((job, f"completed = {job}") for job in (4, 8, 12)),
        (12, "Done"),
    ]
