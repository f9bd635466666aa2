"""The launcher's loop: requests, ended children, the end of the run. Single-threaded, since it forks."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
from typing import Any

from reattach.launcher import child, programs
from reattach.launcher.children import Children

_MAX_FDS = 4
_IDLE_MS = 5


class RequestError(Exception):
    """Answered to the client as text."""


class _InChild(Exception):
    """Takes a fork off the server's stack."""

    def __init__(self, program: programs.Program) -> None:
        super().__init__()
        self.program = program


class _Interrupted(BaseException):
    """Ends an import that the end of the run must not wait for. No import catches it."""


def _read(fd: int) -> dict[str, Any]:
    with open(fd, "rb") as file:
        file.seek(0)
        request: dict[str, Any] = json.loads(file.read())
    return request


class Server:
    def __init__(self, client: socket.socket, client_pid: int) -> None:
        self._client = client
        self._client_pid = client_pid
        self._pid = os.getpid()
        self._children = Children()
        self._trees: list[str] = []
        self._linger = False
        self._ending = False
        self._is_importing = False
        self._poll = select.poll()
        self._wakeup, self._wakeup_writer = socket.socketpair()

    def serve(self) -> programs.Program | None:
        """Serves until the client or this process is told to end. In a forked child: what it is to run."""
        gc.disable()
        child.become_subreaper()
        self._watch_signals()
        # The client may have ended before it was watched.
        self._look_for_client()
        for watched in (self._client, self._wakeup):
            self._poll.register(watched, select.POLLIN)
        try:
            self._loop()
        except _InChild as e:
            return e.program
        self._client.close()
        self._children.end_all()
        if self._trees:
            import shutil  # which start-up can do without

            for tree in self._trees:
                shutil.rmtree(tree, ignore_errors=True)
        return None

    def _loop(self) -> None:
        warm_up = programs.warm_up()
        is_warm = False
        while not self._ending:
            ready = {fd for fd, _ in self._poll.poll(None if is_warm else _IDLE_MS)}
            if self._wakeup.fileno() in ready:
                self._wakeup.recv(4096)
                self._children.reap()
            if self._client.fileno() in ready:
                self._answer()
            elif not ready:
                module = next(warm_up, None)
                is_warm = module is None
                if module is not None:
                    self._load(module)

    def _watch_signals(self) -> None:
        self._wakeup.setblocking(False)
        self._wakeup_writer.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, self._end_soon)
        # The socket's end tells of the client's as well, but not while something is imported here, nor while
        # a fork of the client holds it.
        signal.signal(signal.SIGHUP, self._look_for_client)
        child.signal_at_parents_end(signal.SIGHUP)

    def _look_for_client(self, *_: object) -> None:
        # The signal comes also when only the thread has ended that started this process.
        if os.getppid() != self._client_pid and not self._linger:
            self._end_soon()

    def _end_soon(self, *_: object) -> None:
        self._ending = True
        if self._is_importing:
            raise _Interrupted

    def _load(self, module: str) -> None:
        try:
            self._is_importing = True
            if not self._ending:
                programs.load(module)
            self._is_importing = False
        except _Interrupted:
            self._is_importing = False

    def _client_left(self) -> None:
        if self._linger:
            self._poll.unregister(self._client)
        else:
            self._ending = True

    def _answer(self) -> None:
        message, fds, _, _ = socket.recv_fds(self._client, 16, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        if not message:
            self._client_left()
            return
        pidfds: list[int] = []
        try:
            answer = self._do(_read(fds.pop(0)), fds, pidfds)
        except (RequestError, OSError) as e:
            answer = {"error": str(e)}
        for fd in fds:
            os.close(fd)
        try:
            socket.send_fds(self._client, [json.dumps(answer).encode()], pidfds)
        except OSError:
            self._client_left()
        for fd in pidfds:
            os.close(fd)

    def _do(self, request: dict[str, Any], fds: list[int], pidfds: list[int]) -> dict[str, Any]:
        match request["op"]:
            case "start":
                pid = self._start(request, fds)
                pidfds.append(os.pidfd_open(pid))
                return {"id": self._children.add(pid, request["last_signal"]), "pid": pid}
            case "status":
                return {"returncode": self._children.returncode(request["id"])}
            case "remove_at_exit":
                self._trees.append(request["path"])
                return {}
            case "linger":
                self._linger = True
                return {}
        raise RequestError(f"unknown request {request['op']!r}")

    def _start(self, request: dict[str, Any], fds: list[int]) -> int:
        found = programs.find(request["argv"])
        if found is not None:
            self._load(found[0])
            gc.freeze()
        child.hold_signals()
        try:
            pid = os.fork()
        except OSError:
            child.release_signals()
            raise
        if pid != 0:
            child.release_signals()
            return pid
        try:
            child.settle(
                parent=self._pid,
                cwd=request["cwd"],
                environment=request["env"],
                streams=fds,
                unprivileged=request["unprivileged"],
            )
            if found is None:
                child.execute(request["argv"])
            self._close_in_child()
            child.become_python(request["argv"])
        except BaseException as e:  # noqa: BLE001
            child.give_up(e)
        assert found is not None
        child.take_signals(signal.default_int_handler)
        raise _InChild(found[1])

    def _close_in_child(self) -> None:
        for sock in (self._client, self._wakeup, self._wakeup_writer):
            sock.close()
