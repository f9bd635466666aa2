"""`reattach judge` says of a file what the judge says of its history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from reattach.api.history import Mark, encode_line
from reattach.fixtures.cli.main import main
from reattach.fixtures.judge.by_subject import judge
from test_runner.unit.judge.story import Story, interrupted


def write(story: Story, path: Path) -> Path:
    path.write_bytes(b"".join(map(encode_line, story.lines)))
    return path


def wrong() -> Story:
    story = interrupted()
    story.checkpoint(4)
    return story


def hidden() -> Story:
    story = interrupted()
    story.mark("hidden", channel="remote storage", why="it is a local directory")
    return story


def lost() -> Story:
    story = Story()
    story.mark("lost", why="the disk is full")
    return story


def checked(outcome: str) -> Callable[[], Story]:
    def made() -> Story:
        story = Story()
        facts: dict[str, object] = {"rule": "wrong result", "outcome": outcome}
        story.lines.append(Mark(at=story.now, what="checked", text="three rows are lost", facts=facts))
        return story

    return made


@pytest.mark.parametrize(
    ("story", "code", "first"),
    [
        (interrupted, 0, "pass    witnessed: the history is whole"),
        (wrong, 1, "fail    I3 forward only: shard 0000: completed = 4 was acknowledged"),
        (hidden, 3, "unknown I1 purity: cannot be seen (remote storage: it is a local directory)"),
        (Story, 0, "pass    witnessed"),
        (checked("failed"), 1, "fail    wrong result: three rows are lost"),
        (checked("unknown"), 3, "unknown wrong result: three rows are lost"),
        (checked("survived"), 0, "pass    witnessed"),
        (lost, 3, "unknown witnessed: the witness could not record everything: the disk is full"),
    ],
)
def test_it_says_the_same(story: Callable[[], Story], code: int, first: str, tmp_path: Path) -> None:
    told = story()
    result = CliRunner().invoke(main, ["judge", str(write(told, tmp_path / "history.jsonl"))])
    assert result.exit_code == code
    assert result.output == judge(told.history()).report() + "\n"
    assert result.output.startswith(first)


def test_a_cut_off_line_is_told(tmp_path: Path) -> None:
    path = write(interrupted(), tmp_path / "history.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    result = CliRunner().invoke(main, ["judge", str(path)])
    assert result.exit_code == 3
    assert "is cut off" in result.output.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "history.jsonl: it is empty"),
        ("what\n", "history.jsonl, line 1: "),
        ('{"line": "begin", "at": 0, "version": 99, "time": 0, "world": "x"}\n', "a history of version 99"),
    ],
)
def test_what_is_no_history_is_refused(text: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    result = CliRunner().invoke(main, ["judge", str(path)])
    assert result.exit_code == 2
    assert error in result.output
