"""Processes: how they start, what they print and return, and waiting for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import reattach
from reattach.fixtures.ports import PortDistributor
from reattach.fixtures.processes import (
    CommandFailed,
    CompletedRun,
    Launcher,
    Process,
    ProcessDied,
    ProcessTimeout,
    WaitTimeout,
    wait_for,
)


@pytest.fixture
def python(launcher: Launcher, test_output_dir: Path) -> Iterator[PythonProcesses]:
    processes = PythonProcesses(launcher, test_output_dir)
    yield processes
    processes.kill_all()


class PythonProcesses:
    """Starts `python -c` processes."""

    def __init__(self, launcher: Launcher, directory: Path) -> None:
        self._launcher = launcher
        self._directory = directory
        self._processes: list[Process] = []

    def start(self, code: str, *arguments: str, log: str = "log", unprivileged: bool = False) -> Process:
        process = self._launcher.start(
            "probe",
            [sys.executable, "-c", code, *arguments],
            log_path=self._directory / log,
            unprivileged=unprivileged,
        )
        self._processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(5)


def test_exit_code_and_output(python: PythonProcesses) -> None:
    process = python.start("import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(7)")
    assert process.wait(5) == 7
    assert not process.is_running()
    assert process.returncode == 7
    assert process.wait(0) == 7
    assert set(process.log_path.read_text().splitlines()) == {"to out", "to err"}


def test_log_is_appended_and_last_words_are_of_this_life(python: PythonProcesses) -> None:
    python.start("print('first life')").wait(5)
    second = python.start("print('second life')")
    second.wait(5)
    assert second.log_path.read_text() == "first life\nsecond life\n"
    assert second.log_offset == len("first life\n")
    assert "second life" in second.last_words()
    assert "first life" not in second.last_words()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT])
def test_signal_is_a_negative_return_code(python: PythonProcesses, sig: signal.Signals) -> None:
    process = python.start("import time; time.sleep(60)")
    assert process.is_running()
    assert process.returncode is None
    process.send_signal(sig)
    assert process.wait(5) == -sig
    process.send_signal(sig)  # nobody else may get it
    assert f"was killed by {sig.name}" in repr(process)


def test_signals_have_their_defaults(launcher: Launcher) -> None:
    status = launcher.run(["cat", "/proc/self/status"], timeout=5).stdout.splitlines()
    # Two are glibc's own, and its posix_spawn ignores one of them in a new process.
    settable = sum(1 << (number - 1) for number in signal.valid_signals())
    lines = [line for line in status if line.startswith("Sig") and line[6] == ":"]
    masks = {line[:6]: int(line[7:], 16) & settable for line in lines}
    assert masks == {"SigPnd": 0, "SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


def test_signal_right_after_the_start_is_not_lost(launcher: Launcher, test_output_dir: Path) -> None:
    for _ in range(50):
        process = launcher.start("sleep", ["sleep", "60"], log_path=test_output_dir / "log")
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM


def test_nothing_is_inherited(launcher: Launcher) -> None:
    listed = launcher.run(["sh", "-c", "ls /proc/$$/fd"], timeout=5).stdout.split()
    assert listed == ["0", "1", "2"]


def test_own_session_environment_and_directory(python: PythonProcesses, tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.environ['ONLY'], len(os.environ), os.getcwd())"
    process = python._launcher.start(
        "probe",
        [sys.executable, "-c", code],
        log_path=tmp_path / "log",
        cwd=tmp_path,
        env={"ONLY": "this one", "LC_ALL": "C"},
    )
    assert process.wait(5) == 0
    assert process.log_path.read_text() == f"True this one 2 {tmp_path}\n"


def test_stdin_is_empty(launcher: Launcher) -> None:
    assert launcher.run(["cat"], timeout=5).stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_unprivileged_gives_up_root_but_reaches_its_program(python: PythonProcesses, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "file").write_text("reached")
    code = (
        "import os, sys\n"
        "print(os.getresuid()[0] != 0, len(set(os.getresuid())), os.getgroups())\n"
        "print(open(sys.argv[1]).read())\n"
        "open(sys.argv[1] + '2', 'w')\n"
    )
    process = python.start(code, str(hidden / "file"), unprivileged=True)
    assert process.wait(5) == 1
    first, second, *rest = process.log_path.read_text().splitlines()
    assert first.startswith("True 1 [")
    assert "0" not in first.partition("[")[2].strip("]").split(", ")
    assert second == "reached"
    assert "PermissionError" in rest[-1]


def test_program_that_does_not_exist(launcher: Launcher, test_output_dir: Path) -> None:
    process = launcher.start("ghost", [test_output_dir / "ghost"], log_path=test_output_dir / "log")
    assert process.wait(5) == 127
    assert f"No such file or directory: '{test_output_dir / 'ghost'}'" in process.last_words()


def test_run_says_what_failed(launcher: Launcher) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)exit code 3: sh -c.*stdout: seen.*stderr: cause"):
        launcher.run(["sh", "-c", "echo seen; echo cause >&2; exit 3"], timeout=5)
    assert launcher.run(["sh", "-c", "exit 3"], timeout=5, check=False).returncode == 3


def test_run_kills_what_takes_too_long(launcher: Launcher) -> None:
    with pytest.raises(ProcessTimeout, match=r"(?s)not done after 1 s: sh -c.*stdout: \d+") as error:
        launcher.run(["sh", "-c", "echo $$; exec sleep 60"], timeout=1)
    assert not psutil.pid_exists(int(str(error.value).split()[-1]))


def test_run_takes_much_output(launcher: Launcher, tmp_path: Path) -> None:
    argv = ["sh", "-c", "seq 1 200000; seq 1 200000 >&2"]
    done = launcher.run(argv, timeout=20)
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 200_000
    launcher.run(argv, timeout=20, stdout=tmp_path / "out", stderr=tmp_path / "err")
    assert (tmp_path / "out").read_text() == (tmp_path / "err").read_text() == done.stdout


def test_wait_names_the_process_and_shows_its_log(python: PythonProcesses) -> None:
    process = python.start("import time; print('stuck here', flush=True); time.sleep(60)")
    wait_for(lambda: "stuck" in process.log_path.read_text(), what="a line", timeout=5, alive=process)
    with pytest.raises(ProcessTimeout, match=r"(?s)probe \(pid \d+\) did not end in 0.05 s.*stuck here"):
        process.wait(0.05)


def test_threads_share_the_launcher(python: PythonProcesses) -> None:
    def one(number: int) -> int:
        process = python.start("import sys; sys.exit(int(sys.argv[1]))", str(number), log=f"log{number}")
        return process.wait(20)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == list(range(24))


def test_threads_wait_for_the_same_process(python: PythonProcesses) -> None:
    process = python.start("import time; time.sleep(60)")
    with ThreadPoolExecutor(8) as pool:
        codes = [pool.submit(process.wait, 10) for _ in range(8)]
        process.kill()
        assert [code.result() for code in codes] == [-signal.SIGKILL] * 8


class TestWaitFor:
    def test_returns_what_was_seen(self) -> None:
        values = iter([None, False, 0])
        assert wait_for(lambda: next(values), what="a value", timeout=5) == 0

    def test_looks_once_more_after_the_deadline(self) -> None:
        start = time.monotonic()
        seen: list[float] = []

        def condition() -> bool:
            seen.append(time.monotonic() - start)
            # Only a look after the deadline can see it.
            return seen[-1] > 0.05

        assert wait_for(condition, what="the deadline", timeout=0.05)

    def test_says_what_was_awaited_and_seen(self) -> None:
        with pytest.raises(WaitTimeout, match=r"waited 0.01 s for the moon; last seen: OSError: cloudy"):
            wait_for(_raise(OSError("cloudy")), what="the moon", timeout=0.01, ignore=(OSError,))

    @pytest.mark.parametrize("error", [AttributeError("typo"), TypeError("typo"), OSError("not listed")])
    def test_other_errors_end_the_wait(self, error: Exception) -> None:
        with pytest.raises(type(error), match=str(error)):
            wait_for(_raise(error), what="the moon", timeout=5, ignore=(ConnectionError,))

    def test_ends_when_the_process_dies(self, python: PythonProcesses) -> None:
        process = python.start("import time; print('farewell', flush=True); time.sleep(0.2); exit(9)")
        start = time.monotonic()
        with pytest.raises(
            ProcessDied, match=r"(?s)probe .*ended with exit code 9 while.*the moon.*farewell"
        ):
            wait_for(lambda: None, what="the moon", timeout=30, alive=process)
        assert time.monotonic() - start < 5

    def test_counts_what_a_process_did_before_it_died(self, python: PythonProcesses) -> None:
        process = python.start("print('done')")
        process.wait(5)
        assert wait_for(lambda: "done" in process.log_path.read_text(), what="it", timeout=5, alive=[process])


def _raise(error: Exception) -> Callable[[], None]:
    def condition() -> None:
        raise error

    return condition


class TestOwnPrograms:
    """A program of ours runs in a fork of the launcher; it must behave as if a shell had started it."""

    PROGRAM = Path(reattach.__file__).parent / "bin" / "fast_import"

    @pytest.fixture(params=["launcher", "shell"])
    def run(self, request: pytest.FixtureRequest, launcher: Launcher) -> Callable[..., CompletedRun]:
        def by_launcher(*arguments: str, env: dict[str, str] | None = None) -> CompletedRun:
            return launcher.run([self.PROGRAM, *arguments], timeout=30, check=False, env=env)

        def by_shell(*arguments: str, env: dict[str, str] | None = None) -> CompletedRun:
            argv = (str(self.PROGRAM), *arguments)
            done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=30)
            return CompletedRun(argv, done.returncode, done.stdout, done.stderr)

        return by_launcher if request.param == "launcher" else by_shell

    def test_usage(self, run: Callable[..., CompletedRun]) -> None:
        done = run()
        assert done.returncode == 2
        assert done.stderr.startswith("usage: fast_import ")
        assert run("--help").returncode == 0

    def test_environment_and_code_of_main(self, run: Callable[..., CompletedRun], tmp_path: Path) -> None:
        env = {f"NEON_IMPORTER_{name}": str(tmp_path) for name in ("WORKDIR", "PG_BIN_DIR", "PG_LIB_DIR")}
        done = run("pgdata", env=env)
        assert (done.returncode, done.stderr) == (
            1,
            "fast_import: spec must be provided for pgdata command\n",
        )
        assert done.stdout.splitlines()[0].endswith(" INFO starting")

    def test_is_a_process_of_its_own(self, launcher: Launcher, test_output_dir: Path) -> None:
        process = launcher.start("fast_import", [self.PROGRAM, "--help"], log_path=test_output_dir / "log")
        assert process.pid != launcher.pid
        assert process.wait(10) == 0

    def test_is_shown_under_its_name(
        self, launcher: Launcher, port_distributor: PortDistributor, tmp_path: Path
    ) -> None:
        argv = [sys.executable, "-m", "reattach.witness", "--listen"]
        argv += [f"127.0.0.1:{port_distributor.get_port()}", "--spool", str(tmp_path)]
        process = launcher.start("bucket", argv, log_path=tmp_path / "log")
        try:
            shown = psutil.Process(process.pid)
            wait_for(lambda: shown.name() == "witness", what="its name", timeout=10, alive=process)
            wait_for(
                lambda: [part for part in shown.cmdline() if part] == argv,
                what="its command line",
                timeout=10,
                alive=process,
            )
        finally:
            process.kill()
            process.wait(10)

    def test_traceback_goes_to_the_log(self, launcher: Launcher, test_output_dir: Path) -> None:
        process = launcher.start(
            "bucket",
            [sys.executable, "-m", "reattach.witness", "--listen", "127.0.0.1:1", "--spool", "/proc/x"],
            log_path=test_output_dir / "log",
        )
        assert process.wait(10) != 0
        assert process.log_path.stat().st_size > 0


def test_launcher_runs_no_thread(launcher: Launcher) -> None:
    """A fork takes one thread along, and whatever lock another one holds stays locked."""
    launcher.run(["true"], timeout=10)
    threads = Path(f"/proc/{launcher.pid}/task")
    assert len(list(threads.iterdir())) == 1
    assert threading.active_count() >= 1
