"""`reattach up` and the commands against it, as a person uses them."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from reattach.fixtures.imports.bucket import SourceCluster
from reattach.fixtures.processes import wait_for
from test_runner.regress.cloud.by_hand import COMMAND_SECONDS, PROGRAM, START_SECONDS, ByHand

_SHOWN = {
    "timeline_imports": "(0 rows)",
    "s3://import/": "1/status/pgdata",
    "import --wait": "done, and the control plane knows",
    "start pageserver_1": "pageserver_1 runs as",
}
"""What must be in the answer to an example."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(test_output_dir: Path) -> Path:
    # Not pytest's own, which PostgreSQL may not enter as another user.
    folder = test_output_dir / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def cloud(folder: Path, request: pytest.FixtureRequest) -> Iterator[ByHand]:
    by_hand = ByHand(folder, *getattr(request, "param", ()))
    try:
        by_hand.wait_until_up()
        by_hand.family()
        yield by_hand
    finally:
        by_hand.process.kill()
        by_hand.process.wait()
        print("\n".join(by_hand.lines))  # noqa: T201  (shown if the test fails)


@pytest.mark.parametrize("cloud", [("--shards", "2", "--pageservers", "2")], indirect=True, ids=["2_by_2"])
def test_import_kill_start_and_ctrl_c(cloud: ByHand, import_source: SourceCluster) -> None:
    imported = cloud.run("import", "--wait")
    assert imported.returncode == 0, imported.stdout
    tenant, timeline = imported.stdout.split()[1:4:2]
    assert "shard 0102 done" in imported.stdout
    seen = requests.get(f"{cloud.address('storage_controller')}/v1/tenant/{tenant}/timeline/{timeline}")
    assert seen.json()["state"] == "Active"
    cloud.wait_for_line(f"import {timeline[:8]}: done, and the control plane knows")

    before = cloud.pid_of("pageserver_1")
    assert cloud.run("kill", "pageserver_1").stdout == "pageserver_1 was killed by SIGKILL\n"
    assert not psutil.pid_exists(before)
    cloud.wait_for_line("pageserver_1 was killed by SIGKILL; `reattach start pageserver_1` starts it again")
    again = cloud.run("kill", "pageserver_1")
    assert again.returncode == 1 and "starts it" in again.stdout

    started = cloud.run("start", "pageserver_1")
    assert started.stdout == f"pageserver_1 runs as {cloud.pid_of('pageserver_1')}\n"
    assert cloud.run("kill", "storage_controller").returncode == 0
    assert cloud.run("start", "storage_controller").returncode == 0

    own = cloud.run("import", "--wait", "--shards", "0", "--pgdata", str(import_source.pgdata))
    assert own.returncode == 0 and "shard 0000 done" in own.stdout, own.stdout
    none = cloud.run("import", "--pgdata", str(cloud.folder))
    assert none.returncode == 1 and "it has no file PG_VERSION" in none.stdout, none.stdout

    assert cloud.end(signal.SIGINT, signal.SIGINT) == 0  # impatient people press it twice
    assert cloud.lines[-1] == "ended"
    cloud.assert_nothing_is_left()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl, which half of the examples call")
def test_examples_work_when_copied(cloud: ByHand) -> None:
    assert len(cloud.examples()) == 14
    for line in cloud.examples():
        if "faults" in line:
            # An import that is still under way would come to the crash point that the example names.
            cloud.wait_until_imports_have_ended()
        done = subprocess.run(
            ["sh", "-c", line],
            env=cloud.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if line.partition(" aws ")[1] and done.returncode == 127:
            continue  # the program is not installed; what it would do, the tests of the mock S3 do
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        assert '"msg"' not in done.stdout, f"{line}\n{done.stdout}"
        shown = next((text for call, text in _SHOWN.items() if call in line), "")
        assert shown in done.stdout, f"{line}\n{done.stdout}"
    assert cloud.end(signal.SIGTERM) == 1
    assert "never happened: before pageserver_1 > s3: put index*" in cloud.lines[-1]
    cloud.assert_nothing_is_left()


def test_faults_and_kill_9_of_the_command(cloud: ByHand) -> None:
    added = cloud.run("faults", "s3", "status", "status=503", "--operation", "GetObject", "--times", "3")
    assert added.stdout == "s3-1: Status(status=503) on GetObject times=3\n"
    cloud.run("faults", "s3", "delay", "seconds=0.01", "--key", "no such key")
    # The first belongs to the creation, which would be waited for.
    at = cloud.run("faults", "at", "pageserver_1 > s3: put index* #2", "before", "kill pageserver_1")
    assert at.returncode == 0, at.stdout
    unknown = cloud.run("faults", "at", "pageserver_1 > s3: put index*", "before", "kil pageserver_1")
    assert unknown.returncode == 1 and "did you mean 'kill'?" in unknown.stdout
    nobody = cloud.run("faults", "at", "pageserver_1 > s3: put index*", "before", "kill pageserver_7")
    assert nobody.returncode == 1 and "no process 'pageserver_7'" in nobody.stdout

    assert cloud.run("import").returncode == 0
    cloud.wait_for_line("pageserver_1 was killed by SIGKILL")
    started = cloud.run("start", "pageserver_1")
    assert started.returncode == 0, started.stdout
    cloud.wait_for_line("done, and the control plane knows")

    cleared = cloud.run("faults", "clear")
    assert cleared.returncode == 1
    assert cleared.stdout.splitlines() == [
        "s3-1: happened 3 times",
        "s3-2: happened 0 times",
        "at-1: happened 1 times",
        "Error: never happened: s3-2",
    ]
    assert cloud.run("faults", "list").stdout == ""
    cloud.family()
    assert cloud.end(signal.SIGKILL) == -9
    cloud.assert_nothing_is_left()


def test_ctrl_c_while_it_starts(folder: Path) -> None:
    by_hand = ByHand(folder)
    try:
        wait_for(lambda: len(by_hand.family()) > 1, what="the first processes", timeout=START_SECONDS)
        assert by_hand.end(signal.SIGINT) == 0
    finally:
        by_hand.process.kill()
        by_hand.process.wait()
    by_hand.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("file", "reason"),
    [(None, "it has no file PG_VERSION"), ("postmaster.pid", "a server runs on")],
    ids=["no_cluster", "running"],
)
def test_data_that_cannot_be_imported(folder: Path, tmp_path: Path, file: str | None, reason: str) -> None:
    if file is not None:
        (tmp_path / "PG_VERSION").write_text("16\n")
        (tmp_path / file).touch()
    by_hand = ByHand(folder, "--pgdata", str(tmp_path))
    assert by_hand.end() == 1
    (said,) = by_hand.lines
    assert str(tmp_path) in said and reason in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("command", [("import",), ("kill", "pageserver_1"), ("faults", "list")], ids=" ".join)
def test_no_cloud_runs(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*PROGRAM, *command],
        env={"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: no cloud runs: `reattach up` starts one\n"
