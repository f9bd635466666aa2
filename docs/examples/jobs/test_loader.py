"""A job of one's own: every crash point of it is tried."""

import sys
from pathlib import Path

import pytest

from reattach.fixtures.explore.plugin import DidNotSurvive
from reattach.fixtures.subjects.command import Command

LOADER = Path(__file__).with_name("loader.py")


@pytest.fixture
def loader(job_bucket, target_postgres):
    job_bucket.put("a", b"apple apricot")
    job_bucket.put("b", b"banana")

    def loader(how="right"):
        return Command(
            [sys.executable, str(LOADER), job_bucket.name, target_postgres.dsn, how],
            through=[job_bucket, target_postgres],
            check=lambda: target_postgres.assert_rows("fruit", 3, key="name"),
            name="loader",
            call=f'loader("{how}")',
        )

    return loader


@pytest.mark.parametrize("how", ["right"])
def test_my_loader_survives_every_crash(explore, loader, how):
    explore(loader(how)).assert_survives_every_crash()


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("checkpoint_first", "at loader > target: commit insert done #1, after: kill loader"),
        ("two_transactions", "at loader > target: commit copy fruit #1, after: kill loader"),
        ("in_memory", "at loader > target: commit copy fruit #1, after: kill loader"),
    ],
)
def test_a_wrong_loader_does_not(replay, loader, how, step):
    with pytest.raises(DidNotSurvive, match=r"wrong result: .*table fruit has"):
        replay(loader(how), step)
