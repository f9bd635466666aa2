"""dbos, durable execution on PostgreSQL: a workflow that is cut at each commit."""

import subprocess
from pathlib import Path

import pytest

from reattach.fixtures.subjects.command import Command

WORKFLOW = Path(__file__).with_name("dbos_workflow.py")
ITEMS = 5

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800)]


@pytest.fixture
def dbos(python_with, target_postgres):
    python = python_with("dbos==3.4.0")

    def check():
        target_postgres.assert_rows("booked", ITEMS, key="n")
        target_postgres.assert_rows("sent", ITEMS)
        assert target_postgres.query("select status from dbos.workflow_status") == [("SUCCESS",)]

    def dbos(migrated=True):
        if migrated:
            migrate = [python, WORKFLOW, target_postgres.direct_dsn, "migrate"]
            subprocess.run(migrate, check=True, timeout=60)
        target_postgres.prepare(
            "create table booked (n int)",
            "create table sent (n int primary key, times int not null default 1)",
        )
        return Command(
            [python, str(WORKFLOW), target_postgres.dsn],
            through=[target_postgres],
            check=check,
            name="dbos",
            call=f"dbos(migrated={migrated})",
        )

    return dbos


def test_a_workflow_survives_every_crash(explore, dbos):
    # The whole table takes some minutes: without a budget.
    explore(dbos()).assert_survives_every_crash(budget=120)
