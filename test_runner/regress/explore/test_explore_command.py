"""Explorations of a real process that writes a bucket: right, and wrong in several ways."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.api.effects import Front, NameRule
from reattach.api.history import load
from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.explore.plugin import DidNotSurvive, NothingObserved, Replay
from reattach.fixtures.judge.by_subject import judge
from reattach.fixtures.processes import shared_launcher
from reattach.fixtures.subjects.command import Command, JobBucket
from reattach.fixtures.subjects.command.attempt import Job

COPIER = Path(__file__).with_name("copier.py")
ITEMS, EVERY = 6, 2
# Items are alike; the numbers in their keys would make each a class of its own.
NAMES = (
    NameRule(front=Front.S3, method="PutObject", target=r"[^/]+/item-.*", verb="put", subject="item"),
    NameRule(front=Front.S3, method="PutObject", target=r"[^/]+/(?P<key>.*)", verb="put", subject="{key}"),
)
PUT = "job > s3: put"

MakeCopier = Callable[..., Command]


@pytest.fixture
def copier(job_bucket: JobBucket) -> MakeCopier:
    def check(items: int) -> None:
        lost = [n for n in range(items) if f"item-{n:03}" not in job_bucket.keys()]  # noqa: SIM118
        assert not lost, f"items {lost} are lost"

    def make(bug: str = "none", items: int = ITEMS, **settings: object) -> Command:
        smaller = [("4 items", make(bug, 4, **settings))] if items > 4 else []
        argv = [sys.executable, "-S", str(COPIER), job_bucket.name, str(items), str(EVERY), bug]
        return Command(
            argv,
            check=lambda: check(items),
            through=[job_bucket],
            names=NAMES,
            checkpoint=f"{PUT} checkpoint",
            smaller=smaller,
            **settings,  # type: ignore[arg-type]
        )

    return make


def test_a_right_job_survives(copier: MakeCopier, test_output_dir: Path) -> None:
    """Every cell of the table, by one process."""
    explorer = Explorer(copier(faults=("kill", "terminate", "network")), test_output_dir / "explore")
    assert [tried.failure for tried in explorer.runs() if tried.failure is not None] == []
    report = explorer.report
    hit, unreachable, untried = report.coverage.numbers()
    assert (unreachable, untried) == (0, 0)
    assert hit > 50
    # A guess was wrong, and the point was tried again.
    assert report.unknown.keys() <= {"never happened", "did nothing"}


def test_a_bug_is_reduced_to_the_interruptions_it_needs(copier: MakeCopier, test_output_dir: Path) -> None:
    explorer = Explorer(copier("resume 2 skips"), test_output_dir / "explore", budget=120)
    reduced = next(tried.failure.reduced for tried in explorer.runs() if tried.failure is not None)
    assert (reduced.confirmed, reduced.of, len(reduced.plan.steps)) == (3, 3, 2)


def test_a_failure_is_repeated_by_its_text(copier: MakeCopier, replay: Replay, test_output_dir: Path) -> None:
    step = f"at {PUT} checkpoint #1, after: kill job"
    with pytest.raises(DidNotSurvive, match=r"wrong result: .* items \[0, 1\] are lost"):
        replay(copier("checkpoint first"), step)
    kept = next(test_output_dir.glob("replay/*/history.jsonl"))
    assert "wrong result: it says that it is done: items [0, 1]" in judge(load(kept)).report()
    replay(copier(), step)
    with pytest.raises(
        NothingObserved, match="step 1, at 'job > s3: put checkpoin #9', never happened; the nea"
    ):
        replay(copier(), f"at {PUT} checkpoin #9, after: kill job")


@pytest.mark.parametrize(
    ("bug", "settings", "expected"),
    [
        ("exits", {}, "stuck: 4 runs, one after the other, failed; it exited with 1"),
        ("gives up", {"loud": "person"}, "failed loudly: it asks for a person"),
        ("never checkpoints", {"at_most_again": 2}, "did too much again: "),
    ],
)
def test_outcomes_are_told_apart(
    copier: MakeCopier, replay: Replay, bug: str, settings: dict[str, object], expected: str, tmp_path: Path
) -> None:
    job = copier(bug, **settings)
    for _ in Explorer(job, tmp_path / "reference", budget=0).runs():
        pass
    with pytest.raises(DidNotSurvive, match=expected):
        replay(job, f"at {PUT} item #5, before: kill job")


def test_who_may_fail_loudly_may(copier: MakeCopier, replay: Replay) -> None:
    step = f"at {PUT} item #5, before: kill job"
    replay(copier("gives up", loud="person", may_fail_loudly=True), step)


def test_unfinished_uploads_are_seen_and_do_not_last(job_bucket: JobBucket) -> None:
    """Also those that moto carries out, as one with an ACL."""
    client = job_bucket.witness.client()
    client.put_object(Bucket=job_bucket.name, Key="only its owner's", Body=b"x", ACL="private")
    assert job_bucket.get("only its owner's") == b"x"
    client.create_multipart_upload(Bucket=job_bucket.name, Key="plain")
    client.create_multipart_upload(Bucket=job_bucket.name, Key="private/ü", ACL="private")
    assert job_bucket.unfinished() == ["plain", "private/ü"]
    with pytest.raises(AssertionError, match="plain, private/ü"):
        job_bucket.assert_nothing_unfinished()
    job_bucket.reset()
    assert (job_bucket.keys(), job_bucket.unfinished()) == ([], [])
    job_bucket.assert_nothing_unfinished()


def test_nothing_of_the_users_leads_a_job_past_the_witness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("AWS_PROFILE", "PGHOST", "http_proxy", "DATABASE_URL")
    for name in (*names, "MINE"):
        monkeypatch.setenv(name, "of the user")
    look = f"import os; os._exit(sum(name in os.environ for name in {names}) + 10 * ('MINE' in os.environ))"
    argv = [sys.executable, "-c", look]
    job = Job("job", argv, tmp_path, {"PGHOST": "of the job"}, tmp_path / "log", shared_launcher())
    assert job.run().wait(30) == 11
