"""The first screen of a failure is its cause in words, then the story, then the test's own line."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from test_runner.regress.test_env_reports import Run, run

TESTS = """
import os
import socket
import pytest
from urllib3 import Retry
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.neon_fixtures import PageserverImportConfig


def test_wrong_expectation(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket)
    timeline.wait_done()
    assert timeline.run().interruptions == 3


def test_down(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3))
    timeline.wait_at(after_job(3))
    timeline.kill()
    neon_simple_env.pageserver.http_client(retries=Retry(0)).tenant_list()


def test_down_while_waiting(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3))
    timeline.wait_at(after_job(3))
    timeline.kill()
    timeline.wait_done(timeout=1)


def test_held(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3), shard_count=2)
    timeline.wait_at(after_job(3))
    timeline.wait_done(timeout=1)


def test_not_uploaded(neon_simple_env, import_bucket):
    import_bucket.delete("status/pgdata")
    timeline = neon_simple_env.start_import(import_bucket)
    timeline.wait_done(timeout=2)


@pytest.mark.timeout(5, func_only=True)
def test_out_of_time(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3), shard_count=2)
    timeline.wait_at(after_job(3))
    timeline.wait_done(timeout=100)


def test_log_error(neon_simple_env):
    with neon_simple_env.pageserver.logfile.open("a") as file:
        file.write("2026-01-02T03:04:05.000000Z ERROR page 7 of the moon is missing\\n")


def test_died(neon_simple_env, import_bucket):
    timeline = neon_simple_env.start_import(import_bucket, hold=after_job(3))
    timeline.wait_at(after_job(3))
    neon_simple_env.pageserver.process.kill()
    timeline.wait_done()


def test_bad_setting(neon_env_builder):
    neon_env_builder.storage_controller_config = {"max_ofline": "1s"}


def test_bad_value(neon_env_builder):
    neon_env_builder.pageserver_import_config = PageserverImportConfig(import_job_concurrency=0)
    neon_env_builder.init_start()


def test_port_taken(neon_env_builder):
    env = neon_env_builder.init_configs()
    taken = os.environ["TAKEN_ADDRESS"]
    env.pageserver.edit_config_toml(lambda config: config.update(listen_http_addr=taken))
    env.start()


@pytest.fixture
def broken():
    raise RuntimeError("the fixture's own words")


def test_fixture_error(neon_simple_env, broken):
    pass
"""


@dataclass(frozen=True)
class Screen:
    lines: list[str]

    @property
    def first(self) -> str:
        return "\n".join(self.lines[:10])

    def line_of(self, text: str) -> int:
        return next((number for number, line in enumerate(self.lines) if text in line), -1)


def screen(found: Run, test: str) -> Screen:
    pattern = rf"_+ (?:ERROR at \w+ of )?{test}\[pg\d+\] _+\n(.*?\nrepeat: [^\n]*)"
    match = re.search(pattern, found.output, re.DOTALL)
    assert match is not None, found.output
    return Screen(match[1].splitlines())


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Open to the user that PostgreSQL runs as, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="first_screen-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def failures(folder: Path, taken: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKEN_ADDRESS", taken)
        patch.delenv("REATTACH_PYTEST", raising=False)
        return run(folder / "failures", TESTS, "--tb=auto")


SECONDS = r"\d+\.\d s"

DOWN = rf"^E   pageserver 1 is down since this test killed it {SECONDS} ago\n"
HELD = r"^E   shard 0002 is held after job 3 by this test\nE   shard 0102 is held after job 3 by this test\n"
NOT_TOLD = "the control plane to be told of the import's end"
NOT_ENDED = rf"E   InvariantViolated: I10 alive: .*\nE   timed out while waiting for {NOT_TOLD}"

CAUSES = {
    "test_wrong_expectation": r"^E   assert timeline\.run\(\)\.interruptions == 3\nE   assert 0 == 3\n$",
    "test_down": rf"{DOWN}E   ConnectionError",
    "test_down_while_waiting": f"{DOWN}{NOT_ENDED}",
    "test_held": f"{HELD}{NOT_ENDED}",
    "test_not_uploaded": r"^E   InvariantViolated: I10 alive: .*status/pgdata",
    "test_out_of_time": rf"{HELD}E   Failed: Timeout \(>5\.0s\).*\n"
    f"E   while waiting for {NOT_TOLD}; last seen: .* not told yet",
    "test_log_error": "^E   EnvironmentFailure: pageserver_1: unexpected log line: .*page 7 of the moon",
    "test_died": r"^E   ProcessDied: pageserver_1 \(pid \d+\) was killed by SIGKILL though nobody stopped it",
    "test_bad_setting": r"^E   ValueError: .* no setting 'max_ofline'; did you mean 'max_offline'\?",
    "test_bad_value": "^E   ProcessDied: pageserver_1 .*having said: .*_job_concurrency`: must be .*not 0",
    "test_port_taken": r"^E   ProcessDied: pageserver_1 .*having said: .*cannot listen on 127.0.0.1:\d+: A",
    "test_fixture_error": "^E   RuntimeError: the fixture's own words$",
}

OWN_LINES = {
    "test_wrong_expectation": "    assert timeline.run().interruptions == 3",
    "test_down": "    neon_simple_env.pageserver.http_client(retries=Retry(0)).tenant_list()",
    "test_down_while_waiting": "    timeline.wait_done(timeout=1)",
    "test_held": "    timeline.wait_done(timeout=1)",
    "test_not_uploaded": "    timeline.wait_done(timeout=2)",
    "test_out_of_time": "    timeline.wait_done(timeout=100)",
    "test_log_error": "    def test_log_error(neon_simple_env):",
    "test_died": "    timeline.wait_done()",
    "test_bad_setting": '    neon_env_builder.storage_controller_config = {"max_ofline": "1s"}',
    "test_bad_value": "    neon_env_builder.init_start()",
    "test_port_taken": "    env.start()",
    "test_fixture_error": """    raise RuntimeError("the fixture's own words")""",
}

WITH_STORY = {
    *("test_wrong_expectation", "test_down", "test_down_while_waiting"),
    *("test_held", "test_out_of_time", "test_died"),
}


@pytest.mark.parametrize("test", list(CAUSES))
def test_the_first_ten_lines_are_the_cause(failures: Run, test: str) -> None:
    assert re.search(CAUSES[test], screen(failures, test).first, re.MULTILINE), failures.section(test)


@pytest.mark.parametrize("test", list(CAUSES))
def test_what_follows(failures: Run, test: str) -> None:
    """The story of the import, if there is one, then the test's line; nothing of the library's source."""
    shown = screen(failures, test)
    own = shown.line_of(OWN_LINES[test])
    assert own > 0 and re.match(r"test_inner\.py:\d+: in ", shown.lines[own - 1])
    if test in WITH_STORY:
        assert 0 < shown.line_of(": pass 1: ") < own
    assert not [line for line in shown.lines if re.match(r"\S*(fixtures|site-packages)/\S*\.py:\d+: ", line)]
    assert not [line for line in shown.lines if line.strip().endswith("assert []")]
    assert len(shown.lines) < 60
    assert shown.lines[-2].startswith("kept: ") and shown.lines[-1].startswith("repeat: ")


@pytest.mark.parametrize(
    ("variable", "value", "cause"),
    [
        ("POSTGRES_DISTRIB_DIR", "/nonexistent", "POSTGRES_DISTRIB_DIR=/nonexistent has no v14 "),
        (
            "DATABASE_URL",
            "postgresql://x@127.0.0.1:1/x",
            "the server that DATABASE_URL names cannot be used: ",
        ),
    ],
)
def test_no_postgres(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, cause: str
) -> None:
    monkeypatch.setenv(variable, value)
    found = run(folder / variable, TESTS, "--tb=auto", "-k", "test_down", "-x")
    assert screen(found, "test_down").lines[0].startswith(f"E   NoPostgres: {cause}")
    assert screen(found, "test_down").line_of("    def test_down(neon_simple_env, import_bucket):") > 0


def test_the_line_that_says_why_is_told(failures: Run) -> None:
    """What is waited for is no job's line, and neither a warning."""
    text = "\n".join(screen(failures, "test_not_uploaded").lines)
    assert re.search(r"last telling lines:\n(?:    .*\n)*    .* waiting for .*status/pgdata", text), text


def test_a_repeat_command_repeats(failures: Run) -> None:
    line = screen(failures, "test_fixture_error").lines[-1]
    test = r"'test_inner\.py::test_fixture_error\[pg\d+\]'"
    assert re.fullmatch(rf"repeat: (\S+|'[^']+')( -m pytest)? {test}", line), line


def test_no_lie_about_processes(failures: Run) -> None:
    assert "no process died" not in failures.output
    assert "was cut short" not in "\n".join(screen(failures, "test_held").lines), "the passes are alive"


def test_the_short_summary_has_the_cause(failures: Run) -> None:
    assert re.search(r"FAILED test_inner.py::test_held\[pg\d+\] - shard 0002 is held", failures.output)


def test_full_trace_shows_everything(folder: Path) -> None:
    found = run(folder / "full", TESTS, "--full-trace", "-k", "test_held")
    text = found.section("test_held")
    assert re.search(r"fixtures/imports/handle\.py:\d+", text) and "def wait_until" in text
    assert "kept: " in text and "repeat: " in text


def test_it_passes_between_processes(folder: Path) -> None:
    found = run(folder / "workers", TESTS, "--tb=auto", "-n1", "-k", "test_held")
    assert re.search(CAUSES["test_held"], screen(found, "test_held").first, re.MULTILINE), found.output
