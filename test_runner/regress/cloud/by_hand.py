"""A `reattach up` of a test's own, looked at from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from reattach.fixtures.processes import wait_for

START_SECONDS = 120.0
END_SECONDS = 30.0
COMMAND_SECONDS = 120.0
LAST_LINE = "faults at"
PROGRAM = [str(Path(sys.executable).parent / "reattach")]


class ByHand:
    """The command, what it has said, and every process that it has started."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """folder: its temporary files and its runtime directory."""
        self.folder = folder
        self.environment = {**os.environ, "TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        self.process = subprocess.Popen(
            [*PROGRAM, "up", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal, where Ctrl-C goes to the whole group.
            process_group=0,
        )
        self.lines: list[str] = []
        self._seen: set[psutil.Process] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_until_up(self) -> None:
        self.wait_for_line(LAST_LINE, START_SECONDS)

    def wait_for_line(self, text: str, seconds: float = COMMAND_SECONDS) -> None:
        def said() -> bool:
            assert self.process.poll() is None or not self._reader.is_alive(), "it is about to end"
            found = any(text in line for line in self.lines)
            assert found or self.process.poll() is None, f"it has ended: {self.lines}"
            return found

        wait_for(said, what=f"`reattach up` to say {text!r}", timeout=seconds)

    def wait_until_imports_have_ended(self) -> None:
        """All that it has told of so far."""

        def ended() -> bool:
            lines = list(self.lines)
            began = [line.partition(": began")[0] for line in lines if ": began, tenant" in line]
            return all(f"{name}: done, and the control plane knows" in lines for name in began)

        wait_for(ended, what="every import to end", timeout=COMMAND_SECONDS)

    def family(self) -> set[psutil.Process]:
        """All that runs below it, and remembers them."""
        self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def examples(self) -> list[str]:
        """The lines to copy."""
        return [line[4:] for line in self.lines if line.startswith("    ")]

    def address(self, process: str) -> str:
        return next(line.split()[-1] for line in self.lines if line.split()[:1] == [process])

    def ports(self) -> set[int]:
        return {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(self.lines))}

    def pid_of(self, process: str) -> int:
        """Of a server, by the folder that it works in."""
        folder = {"storage_controller": "repo"}.get(process, process)
        (found,) = (
            one.pid
            for one in self.family()
            if _runs(one)
            and process.partition("_1")[0] in " ".join(one.cmdline())
            and Path(one.cwd()).name == folder
        )
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`reattach …` against it."""
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def end(self, *signals: signal.Signals) -> int:
        """Sends the signals to the foreground group, each once the one before has begun to end something, and
        waits for the end. Returns the return code.
        """
        running = [one for one in self.family() if _runs(one)] if signals else []
        for number, sig in enumerate(signals):
            if number:
                what = "the first process to be gone"
                wait_for(lambda: not all(map(_runs, running)), what=what, timeout=END_SECONDS)
            os.killpg(self.process.pid, sig)
        code = self.process.wait(END_SECONDS)
        self._reader.join(END_SECONDS)
        return code

    def assert_nothing_is_left(self) -> None:
        """No process, no port that answers, no file."""

        def gone() -> bool:
            alive = [one for one in self._seen if _runs(one)]
            files = sorted(path.name for path in self.folder.iterdir())
            assert not alive and not files, f"left: {alive} {files}"
            return True

        assert len(self._seen) >= 2, "nobody looked which processes there are"
        wait_for(
            gone, what="everything to be gone", timeout=END_SECONDS, ignore=(AssertionError, psutil.Error)
        )
        listening = {
            one.laddr.port
            for one in psutil.net_connections("tcp4")
            if one.laddr and one.status == psutil.CONN_LISTEN
        }
        assert not listening & self.ports()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
