"""Jobs of more than one process: all of them are interrupted, and nobody is left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.api.effects import Front, NameRule
from reattach.api.history import load
from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.explore.plugin import Replay
from reattach.fixtures.explore.run import plan_of, run_plan
from reattach.fixtures.subjects.command import Command, JobBucket
from reattach.fixtures.subjects.port import Outcome

FAMILY = Path(__file__).with_name("family.py")
# Which of the workers comes first is a matter of luck.
NAMES = [
    NameRule(
        front=Front.S3, method="PutObject", target=r"[^/]+/(?P<what>[a-z]+).*", verb="put", subject="{what}"
    )
]

MakeFamily = Callable[..., Command]


@pytest.fixture
def family(job_bucket: JobBucket) -> MakeFamily:
    def make(how: str, keys: list[str], reruns: int = 3) -> Command:
        def check() -> None:
            assert job_bucket.keys() == keys

        argv = [sys.executable, "-S", str(FAMILY), job_bucket.name, how]
        return Command(
            argv,
            check=check,
            through=[job_bucket],
            names=NAMES,
            checkpoint="job > s3: put all",
            reruns=reruns,
        )

    return make


def test_each_of_several_processes_is_cut(family: MakeFamily, test_output_dir: Path) -> None:
    keys = ["all", "part-0", "part-1", "part-2"]
    explorer = Explorer(family("workers", keys), test_output_dir / "explore")
    assert [tried.failure for tried in explorer.runs() if tried.failure is not None] == []
    assert explorer.report.coverage.numbers() == (2 * 3, 0, 0)


def test_a_child_does_not_outlive_a_killed_job(family: MakeFamily, replay: Replay) -> None:
    """It would write at once, into a bucket in which the job has begun again."""
    result = replay(family("orphan", ["first"]), "at job > s3: put first #1, after: kill job")
    names = [str(effect.name) for effect in load(result.folder / "history.jsonl").effects()]
    assert names == ["job > s3: put first #1", "job > s3: put first #2"]


def test_a_child_does_not_outlive_a_job_that_ends_by_itself(family: MakeFamily, tmp_path: Path) -> None:
    """The next run finds the lock free that the child had, at its first try."""
    job = family("lock", ["locked"], reruns=1)
    result = run_plan(job, plan_of(job, ()), tmp_path / "run")
    assert result.outcome is Outcome.SURVIVED, result.sentence()
