"""dlt, a loader from PyPI: an append that is cut at a commit. What was found: docs/track-record.md."""

from pathlib import Path

import pytest

from reattach.api.effects import Front, NameRule
from reattach.fixtures.explore.plugin import DidNotSurvive
from reattach.fixtures.subjects.command import Command

LOADER = Path(__file__).with_name("dlt_loader.py")
REQUIREMENTS = {
    "1.11.0": ("dlt[postgres]==1.11.0", "setuptools<81"),
    "1.31.0": ("dlt[postgres]==1.31.0",),
}
SETTINGS = {
    "CREDENTIALS__PASSWORD": "any",
    # One after the other, so that equal plans make equal runs.
    "LOAD__WORKERS": "1",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "100",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}
# They are made in an order that differs from run to run.
NAMES = [
    NameRule(front=Front.POSTGRES, method="commit", target="create table .*", verb="commit", subject="tables")
]
AFTER_ROWS = "at dlt > target: commit insert loaded.numbers #1, after: kill dlt"
AFTER_STATE = "at dlt > target: commit insert loaded._dlt_pipeline_state #1, after: kill dlt"

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800)]


@pytest.fixture
def dlt(python_with, target_postgres):
    def dlt(version, **settings):
        return Command(
            [python_with(*REQUIREMENTS[version]), str(LOADER), target_postgres.dsn],
            through=[target_postgres],
            check=lambda: target_postgres.assert_rows("loaded.numbers", 500, key="id"),
            environment=SETTINGS,
            names=NAMES,
            loud="abort the package",
            name="dlt",
            call=f'dlt("{version}")',
            **settings,
        )

    return dlt


def test_1_11_0_loses_rows(first_failure, dlt):
    failure = first_failure(dlt("1.11.0"))
    assert failure.reduced.stable
    assert len(failure.reduced.plan.steps) == 1
    assert "wrong result: it says that it is done: table loaded.numbers has " in failure.text()


@pytest.mark.parametrize("step", [AFTER_ROWS, AFTER_STATE])
def test_1_31_0_asks_for_a_person(replay, dlt, step):
    with pytest.raises(DidNotSurvive, match="failed loudly: it asks for a person"):
        replay(dlt("1.31.0"), step)


def test_1_31_0_survives_before_a_commit(replay, dlt):
    replay(dlt("1.31.0"), AFTER_ROWS.replace("after", "before"))
