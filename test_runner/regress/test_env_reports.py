"""What a run says about tests whose environment went wrong: each is a run of pytest of its own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from reattach.fixtures.output.own_folder import MARKER
from test_runner.inner import PYTEST

RUN_SECONDS = 120

BAD_TESTS = """
import os, signal
import pytest
from reattach.fixtures.waiting import wait_until

LINE = "2026-01-02T03:04:05.000000Z ERROR page 7 of the moon is missing\\n"


def log_error(service):
    with service.logfile.open("a") as file:
        file.write(LINE)


def test_dies(neon_simple_env):
    neon_simple_env.pageserver.process.kill()
    neon_simple_env.pageserver.process.wait(10)


def test_dies_and_is_started_again(neon_simple_env):
    test_dies(neon_simple_env)
    neon_simple_env.pageserver.start()


def test_logs_an_error(neon_simple_env):
    log_error(neon_simple_env.pageserver)


def test_fails_and_logs_an_error(neon_simple_env):
    log_error(neon_simple_env.pageserver)
    assert "the test's own words" == 1


def test_waits_for_what_cannot_come(neon_simple_env):
    neon_simple_env.storage_controller.process.kill()
    def never():
        assert False, "not yet"
    wait_until(never, timeout=100)


def test_allows_it(neon_simple_env):
    for service in neon_simple_env.services:
        log_error(service)
        service.allowed_errors.append(".*page 7 of the moon.*")


def test_another_tests_list_does_not_count(neon_simple_env):
    log_error(neon_simple_env.storage_controller)


def test_leaves_a_fault_that_never_fired(neon_simple_env, bucket_server):
    bucket_server.faults.on(key="never/asked/for").slow_down()


def test_is_fine_afterwards(neon_simple_env):
    assert neon_simple_env.pageserver.running
"""


@dataclass(frozen=True)
class Run:
    """A finished run of pytest. outcomes: by test name, e.g. {"call": "failed", "teardown": "passed"}."""

    status: int
    output: str
    outcomes: dict[str, dict[str, str]]
    folder: Path

    def section(self, test: str) -> str:
        """What the output says about a test that failed or whose teardown did."""
        pattern = rf"_+ (?:ERROR at teardown of )?{test}\[pg\d+\] _+\n(.*?)(?=\n_{{3,}} \S|\n={{3,}} )"
        found = re.search(pattern, self.output, re.DOTALL)
        assert found is not None, f"nothing about {test} in:\n{self.output}"
        return found[1]


REPORTER = """
import json, os
def pytest_runtest_logreport(report):
    with open("outcomes.jsonl", "a") as file:
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        file.write(json.dumps([name, report.when, report.outcome]) + "\\n")
"""


def prepare(folder: Path, tests: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_inner.py").write_text(tests)
    (folder / "conftest.py").write_text(REPORTER)
    (folder / "pytest.ini").write_text("[pytest]\n")


def environment() -> dict[str, str]:
    dropped = ("PYTEST_", "TEST_OUTPUT", "COV_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


def command(*arguments: str) -> list[str]:
    return [*PYTEST, "-o", "addopts=", "--tb=short", *arguments]


def run(folder: Path, tests: str, *arguments: str) -> Run:
    prepare(folder, tests)
    done = subprocess.run(
        command("test_inner.py", *arguments),
        cwd=folder,
        env=environment() | {"DEFAULT_PG_VERSION": "16"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    import json

    outcomes: dict[str, dict[str, str]] = {}
    for line in (folder / "outcomes.jsonl").read_text().splitlines():
        name, when, outcome = json.loads(line)
        outcomes.setdefault(name, {})[when] = outcome
    return Run(done.returncode, done.stdout + done.stderr, outcomes, folder)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("bad"), BAD_TESTS)


PASSED = {"setup": "passed", "call": "passed", "teardown": "passed"}
FAILED_AFTERWARDS = {"setup": "passed", "call": "passed", "teardown": "failed"}
FAILED = {"setup": "passed", "call": "failed", "teardown": "passed"}


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("test_dies", FAILED_AFTERWARDS),
        ("test_dies_and_is_started_again", FAILED_AFTERWARDS),
        ("test_logs_an_error", FAILED_AFTERWARDS),
        ("test_fails_and_logs_an_error", FAILED),
        ("test_waits_for_what_cannot_come", FAILED),
        ("test_allows_it", PASSED),
        ("test_another_tests_list_does_not_count", FAILED_AFTERWARDS),
        ("test_leaves_a_fault_that_never_fired", FAILED_AFTERWARDS),
        ("test_is_fine_afterwards", PASSED),
    ],
)
def test_who_fails_and_when(bad: Run, test: str, outcome: dict[str, str]) -> None:
    assert bad.outcomes[test] == outcome, bad.output


@pytest.mark.parametrize("test", ["test_dies", "test_dies_and_is_started_again"])
def test_a_death_is_told_with_the_end_of_the_log(bad: Run, test: str) -> None:
    text = bad.section(test)
    assert re.search(r"pageserver_1 \(pid \d+\) was killed by SIGKILL though nobody stopped it", text)
    assert "the end of its log" in text


def test_an_unexpected_line_is_told_with_its_place(bad: Run) -> None:
    text = bad.section("test_logs_an_error")
    assert "pageserver_1: unexpected log line: 2026-01-02T03:04:05.000000Z ERROR page 7" in text
    assert re.search(r"pageserver\.log:\d+\n", text)
    assert "\nrepeat: " in text and "\nkept: " in text


def test_the_tests_own_error_comes_first(bad: Run) -> None:
    text = bad.section("test_fails_and_logs_an_error")
    own, environment = text.index("the test's own words"), text.index("page 7 of the moon")
    assert own < environment
    assert "environment -----" in text[own:environment]


def test_a_wait_ends_with_the_death(bad: Run) -> None:
    text = bad.section("test_waits_for_what_cannot_come")
    assert "storage_controller (pid" in text and "was killed by SIGKILL" in text
    assert "WaitTimeout" not in text


def test_a_fault_that_never_fired_is_told(bad: Run) -> None:
    assert "never fired" in bad.section("test_leaves_a_fault_that_never_fired")


def test_what_is_kept(bad: Run) -> None:
    """Logs and configuration stay, and of a failed test what the controller had recorded; no data does."""
    kept = bad.folder / "test_output" / "test_fails_and_logs_an_error[pg16]" / "repo"
    names = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert {
        "storage_controller_1/storage_controller.log",
        "pageserver_1/pageserver.log",
        "pageserver_1/pageserver.toml",
        "import_rows.json",
    } <= names
    assert not any("__" in name for name in names)


SLEEPING_TEST = """
import json, pathlib, time


def test_sleeps(neon_simple_env, database_server):
    env = neon_simple_env
    pids = [service.pid for service in env.services] + [database_server.server.process.pid]
    partial = pathlib.Path("pids.new")
    partial.write_text(json.dumps(pids))
    partial.rename("pids.json")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.05)
"""


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    prepare(tmp_path, SLEEPING_TEST)
    env = environment() | {"DEFAULT_PG_VERSION": "16"}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            command("test_inner.py"), cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 60
        pids = tmp_path / "pids.json"
        while not pids.exists():
            assert process.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.02)
        import json

        yield process, [psutil.Process(pid) for pid in json.loads(pids.read_text())]
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_nothing_survives_the_run(
    sleeping: tuple[subprocess.Popen[bytes], list[psutil.Process]], sig: signal.Signals
) -> None:
    """kill -9 of pytest and Ctrl-C leave no process: two seconds after the one, when the other has ended."""
    pytest_process, servers = sleeping
    assert len(servers) == 3 and all(server.is_running() for server in servers)
    pytest_process.send_signal(sig)
    pytest_process.wait(30)
    _, alive = psutil.wait_procs(servers, timeout=2)
    assert not alive, alive


FAILING_TEST = """
from reattach.fixtures.imports.handle import after_job


def test_fails(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3))
    timeline.wait_at(after_job(3))
    print("timeline", timeline.tenant_id, timeline.timeline_id)
    assert False, "look around"


def test_later(neon_simple_env):
    assert neon_simple_env
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Open to the user that PostgreSQL runs as, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="keep_running-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_keep_running(folder: Path) -> None:
    """What is left can be looked at, and the import goes on to its end: with a control plane that is told."""
    done = run(folder, FAILING_TEST, "--keep-running")
    stop = re.search(r"stop everything:\n\s+(kill \d+)\n", done.output)
    assert stop is not None, done.output
    servers: list[psutil.Process] = []
    try:
        assert done.outcomes.keys() == {"test_fails"}, "the run stops there"
        api = re.search(r"storage controller  (http://\S+)  pid (\d+)", done.output)
        database = re.search(r"database            (psql '\S+')", done.output)
        pageserver = re.search(r"pageserver 1        (http://\S+)  pid (\d+)", done.output)
        assert api is not None and database is not None and pageserver is not None, done.output
        import requests

        assert requests.get(f"{api[1]}/ready", timeout=10).status_code == 200
        assert requests.get(f"{pageserver[1]}/v1/status", timeout=10).json() == {"id": 1}
        servers += [psutil.Process(int(pid)) for pid in (api[2], pageserver[2])]

        ids = re.search(r"^timeline (\w+) (\w+)$", done.output, re.MULTILINE)
        timelines = re.search(r"curl -s (http://\S+/timeline)\n", done.output)
        release = re.search(r"let go whom the test holds:\n\s+(curl .*)\n", done.output)
        assert ids is not None and timelines is not None and release is not None
        assert "held                shard 0000 is held after job 3 by this test" in done.output
        assert f"/tenant/{ids[1]}/" in timelines[1]
        arguments = shlex.split(release[1])
        header = dict([arguments[arguments.index("-H") + 1].split(": ", 1)])
        assert requests.delete(arguments[-1], headers=header, timeout=10).status_code == 200
        told = folder / "test_output/test_fails[pg16]/repo/control_plane.log"
        deadline = time.monotonic() + 30
        while f'"timeline_id":"{ids[2]}"' not in told.read_text().replace(" ", ""):
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.05)
        assert [each["timeline_id"] for each in requests.get(timelines[1], timeout=10).json()] == [ids[2]]
        assert "import_complete" in told.read_text() and '"error":null' in told.read_text().replace(" ", "")
    finally:
        servers.append(psutil.Process(int(stop[1].split()[1])))
        subprocess.run(["sh", "-c", stop[1]], check=True)
    _, alive = psutil.wait_procs(servers, timeout=5)
    assert not alive, alive


WRITING_TESTS = """
import pytest


@pytest.mark.parametrize("passes", [True, False], ids=["passes", "fails"])
def test_writes(test_output_dir, passes):
    (test_output_dir / "bucket").mkdir()
    (test_output_dir / "bucket" / "large").write_bytes(bytes(1000))
    (test_output_dir / "server.log").write_text("what it said")
    assert passes
"""


@pytest.mark.parametrize("options", [[], ["--preserve-database-files"]], ids=["default", "preserve"])
def test_files_of_a_passing_test_go(tmp_path: Path, options: list[str]) -> None:
    run(tmp_path, WRITING_TESTS, *options)
    output = tmp_path / "test_output"
    kept = {str(path.relative_to(output)) for path in output.glob("test_writes*/**/*") if path.is_file()}
    names = ["fails", "passes"] if options else ["fails"]
    files = (MARKER, "bucket/large", "server.log")
    assert kept == {f"test_writes[{name}]/{file}" for name in names for file in files}
