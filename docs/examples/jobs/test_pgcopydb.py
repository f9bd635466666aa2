"""pgcopydb, which copies a database: a copy that is cut, and resumed. Findings: docs/track-record.md."""

import subprocess
from pathlib import Path

import pytest

from reattach.api.effects import Front, NameRule
from reattach.fixtures.explore.plugin import DidNotSurvive
from reattach.fixtures.postgres.databases import start_database_server
from reattach.fixtures.subjects.command import Command, TargetPostgres

JOB = Path(__file__).with_name("pgcopydb.sh")
SUPPORTED = 15  # the newest PostgreSQL that pgcopydb 0.10 says it works with
TABLES = ("a", "b", "c", "d")
NAMES = [
    NameRule(front=Front.POSTGRES, method="commit", target="create table .*", verb="commit", subject="tables")
]

pytestmark = [pytest.mark.programs, pytest.mark.timeout(1800)]


@pytest.fixture
def source_and_target(
    launcher, pg_distributions, pg_clusters, port_distributor, bucket_server, test_output_dir
):
    if SUPPORTED not in pg_distributions:
        pytest.skip(f"there is no PostgreSQL {SUPPORTED}: scripts/fetch-postgres {SUPPORTED}")
    distributions = {SUPPORTED: pg_distributions[SUPPORTED]}
    server = start_database_server(launcher, distributions, pg_clusters, port_distributor, test_output_dir)
    source, target = (
        TargetPostgres(server, bucket_server, port_distributor.get_port(), peer)
        for peer in ("source", "target")
    )
    for table in TABLES:
        source.prepare(
            f"create table {table} (id int primary key, n int, t text)",
            f"insert into {table} select n, n % 7, 'row ' || n from generate_series(1, 2000) n",
            f"create index {table}_n on {table} (n)",
        )
    yield source, target
    server.close()


@pytest.fixture
def pgcopydb(program, source_and_target):
    source, target = source_and_target
    path = program("pgcopydb")
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    if "pgcopydb version 0.10-" not in shown:
        pytest.skip(f"what is expected here is of pgcopydb 0.10, and this is {shown.splitlines()[:1]}")

    def same():
        copied, original = target.contents(), source.contents()
        differing = sorted(t for t in original if copied.get(t) != original[t])
        assert not differing, f"{', '.join(differing)} differ from the source"
        indexes = "select indexdef from pg_indexes where schemaname = 'public' order by 1"
        assert target.query(indexes) == source.query(indexes), "indexes differ from the source's"

    def pgcopydb(jobs=1):
        return Command(
            ["sh", str(JOB), path, source.dsn, target.dsn, str(jobs)],
            through=[source, target],
            check=same,
            names=NAMES,
            name="pgcopydb",
            call=f"pgcopydb(jobs={jobs})",
        )

    return pgcopydb


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_cut_copy_does_not_come_right(first_failure, pgcopydb, jobs):
    failure = first_failure(pgcopydb(jobs))
    assert failure.reduced.stable
    assert len(failure.reduced.plan.steps) == 1
    assert failure.reduced.result.rules == {"stuck"}


@pytest.mark.parametrize(
    "at", ["tables #1, after", "create index a_pkey #1, after", "alter table public.d #1, after"]
)
def test_what_is_there_already_is_made_again(replay, pgcopydb, at):
    with pytest.raises(DidNotSurvive, match=r"stuck: 4 runs, one after the other, failed"):
        replay(pgcopydb(), f"at pgcopydb > target: commit {at}: kill pgcopydb")


def test_before_its_first_commit_it_resumes(replay, pgcopydb):
    replay(pgcopydb(), "at pgcopydb > target: commit tables #1, before: kill pgcopydb")
