"""No process outlives the test run, however that ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from reattach.fixtures.processes import Launcher, ProcessError, wait_for
from test_runner.inner import PYTEST

GONE_SECONDS = 2.0
"""In which nothing may be left of a test run that was killed."""


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended, be it that nobody asked how."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# A parent that starts a process, which starts a grandchild in a session of its own that ignores signals and
# whose own parent ends. Says all pids, then waits.
_FAMILY = """
import os, signal, sys, time
from pathlib import Path
from reattach.fixtures.processes import Launcher, wait_for
START
tree = Path(sys.argv[1]) / "tree"
(tree / "deep").mkdir(parents=True)
launcher.remove_at_exit(tree)
child = '''
import os, signal, sys, time
for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(sig, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
print(os.getpid(), flush=True)
time.sleep(600)
'''
log = Path(sys.argv[1]) / "family.log"
process = launcher.start("child", [sys.executable, "-c", child], log_path=log)
wait_for(lambda: len(log.read_text().split()) == 2, what="two pids", timeout=60, alive=process)
print(launcher.pid, *log.read_text().split(), flush=True)
MORE
"""


class Family:
    """A process of its own that uses a Launcher, and the pids of what hangs below it."""

    def __init__(self, directory: Path, more: str = "time.sleep(600)", start: str = "") -> None:
        self.directory = directory
        self.main = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _FAMILY.replace("MORE", more).replace("START", start or "launcher = Launcher()"),
                str(directory),
            ],
            stdout=subprocess.PIPE,
            text=True,
            # As in a terminal, where Ctrl-C goes to the whole group.
            process_group=0,
        )
        assert self.main.stdout is not None
        self.pids = [int(pid) for pid in self.main.stdout.readline().split()]
        self.launcher, self.child, self.grandchild = self.pids

    def assert_gone(self) -> None:
        """Nothing is left soon after the end of the process itself."""
        self.main.wait(20)
        wait_for(
            lambda: not self.left(),
            what=f"launcher, child and grandchild {self.pids} to be gone",
            timeout=GONE_SECONDS,
        )
        assert not (self.directory / "tree").exists()

    def left(self) -> list[int]:
        return [pid for pid in self.pids if is_alive(pid)]

    def close(self) -> None:
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        self.main.kill()
        self.main.wait()
        assert self.main.stdout is not None
        self.main.stdout.close()


@pytest.fixture
def family(test_output_dir: Path) -> Iterator[Family]:
    result = Family(test_output_dir)
    yield result
    result.close()


def test_family_is_what_it_should_be(family: Family) -> None:
    """Else the tests below would find nothing left because there was nothing."""
    assert family.left() == family.pids
    assert len(set(family.pids)) == 3
    assert psutil.Process(family.child).ppid() == family.launcher
    wait_for(
        lambda: psutil.Process(family.grandchild).ppid() == family.launcher,
        what="the launcher to take the orphan in",
        timeout=5,
    )
    assert os.getsid(family.grandchild) not in (os.getsid(family.child), os.getsid(family.launcher))


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_everything_ends_with_the_test_process(family: Family, sig: signal.Signals) -> None:
    os.killpg(family.main.pid, sig)
    family.assert_gone()


def test_everything_ends_at_a_normal_end(test_output_dir: Path) -> None:
    family = Family(test_output_dir, "launcher.close()")
    try:
        assert family.main.wait(10) == 0
        assert family.left() == []
        assert not (test_output_dir / "tree").exists()
    finally:
        family.close()


def test_everything_ends_although_a_fork_holds_the_socket(test_output_dir: Path) -> None:
    """And although the thread ended long ago that started the launcher, whose end is all that it is told
    of."""
    in_thread = "from threading import Thread; launchers = []; "
    in_thread += (
        "thread = Thread(target=lambda: launchers.append(Launcher())); thread.start(); thread.join(); "
    )
    in_thread += "launcher = launchers[0]"
    fork = "other = os.fork()\nif other: print(other, flush=True)\ntime.sleep(600)"
    family = Family(test_output_dir, fork, in_thread)
    assert family.main.stdout is not None
    other = int(family.main.stdout.readline())
    try:
        assert family.left() == family.pids
        family.main.kill()
        family.assert_gone()
    finally:
        os.kill(other, signal.SIGKILL)
        family.close()


@pytest.mark.parametrize("unprivileged", [False, True])
def test_children_die_with_the_launcher(test_output_dir: Path, unprivileged: bool) -> None:
    """Also one that gave up root, with which the kernel forgets whose end it was to follow."""
    launcher = Launcher()
    process = launcher.start(
        "sleep", ["sleep", "600"], log_path=test_output_dir / "log", unprivileged=unprivileged
    )
    wait_for(
        lambda: psutil.Process(process.pid).name() == "sleep", what="the program", timeout=10, alive=process
    )
    os.kill(launcher.pid, signal.SIGKILL)
    try:
        wait_for(lambda: not is_alive(process.pid), what="the child to die", timeout=GONE_SECONDS)
    finally:
        if is_alive(process.pid):
            os.kill(process.pid, signal.SIGKILL)
        launcher.close()


def test_launcher_that_died_is_named(test_output_dir: Path) -> None:
    launcher = Launcher()
    launcher.run(["true"], timeout=5)
    os.kill(launcher.pid, signal.SIGKILL)
    with pytest.raises(ProcessError, match="was killed by SIGKILL"):
        launcher.run(["true"], timeout=5)
    launcher.close()


def test_keep_running_until_told(test_output_dir: Path) -> None:
    family = Family(test_output_dir, "print(launcher.keep_running(), flush=True)")
    assert family.main.stdout is not None
    command = family.main.stdout.readline().split()
    try:
        assert family.main.wait(10) == 0
        assert command == ["kill", str(family.launcher)]
        assert family.left() == family.pids
        assert (test_output_dir / "tree").exists()
        subprocess.run(["sh", "-c", shlex.join(command)], check=True)
        family.assert_gone()
    finally:
        family.close()


def test_last_signal_comes_before_the_kill(test_output_dir: Path) -> None:
    """A process that wants to clean up gets the chance; one that does not end by it is killed all the
    same."""
    launcher = Launcher()
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGQUIT, lambda *_: (print('cleaned up', flush=True), ENDING))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    logs = {}
    for name, ending in (("willing", "sys.exit(0)"), ("stubborn", "None")):
        logs[name] = test_output_dir / name
        process = launcher.start(
            name,
            [sys.executable, "-c", code.replace("ENDING", ending)],
            log_path=logs[name],
            last_signal=signal.SIGQUIT,
        )
        ready = partial(_says_ready, logs[name])
        wait_for(ready, what="ready", timeout=5, alive=process)
    start = time.monotonic()
    launcher.close()
    assert time.monotonic() - start < GONE_SECONDS
    assert [log.read_text() for log in logs.values()] == ["ready\ncleaned up\n"] * 2
    assert not is_alive(process.pid)


def _says_ready(log: Path) -> bool:
    return "ready\n" in log.read_text()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("options", "sig", "whole_run"),
    [
        pytest.param((), signal.SIGKILL, True, id="pytest is killed"),
        pytest.param((), signal.SIGINT, True, id="ctrl-c"),
        pytest.param(("-n2",), signal.SIGINT, True, id="ctrl-c under xdist"),
        pytest.param(("-n2",), signal.SIGKILL, False, id="xdist worker is killed"),
    ],
)
def test_pytest_that_is_ended_leaves_nothing(
    pytester: pytest.Pytester, options: tuple[str, ...], sig: signal.Signals, whole_run: bool
) -> None:
    pytester.makepyfile(
        """
        import os, time
        from pathlib import Path

        def test_it(launcher, tmp_path):
            process = launcher.start("sleep", ["sleep", "600"], log_path=tmp_path / "log")
            Path("new").write_text(f"{os.getpid()} {launcher.pid} {process.pid}")
            Path("new").rename("pids")
            time.sleep(600)
        """
    )
    file = pytester.path / "pids"
    argv = [*PYTEST, *options]
    with subprocess.Popen(argv, cwd=pytester.path, stdout=subprocess.DEVNULL, process_group=0) as run:
        try:
            pids = wait_for(
                lambda: [int(pid) for pid in file.read_text().split()] if file.exists() else None,
                what="the test to start its process",
                timeout=60,
            )
            assert all(is_alive(pid) for pid in pids)
            if whole_run:
                # Ctrl-C in a terminal reaches every process of the group.
                os.killpg(run.pid, sig)
                run.wait(20)
            else:
                os.kill(pids[0], sig)
            wait_for(
                lambda: not any(is_alive(pid) for pid in pids),
                what=f"the worker, its launcher and its process {pids} to be gone",
                timeout=GONE_SECONDS,
            )
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
