"""A command finds the running cloud, and says what is wrong if it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach.fixtures.cloud.address import CloudAddress, NoCloud, Refused, find, make_folder, publish
from reattach.fixtures.cloud.calls import CloudView
from reattach.fixtures.json_server import Asked, JsonServer


@pytest.fixture
def port() -> Iterator[int]:
    def answer(asked: Asked) -> tuple[int, bytes]:
        right = asked.headers["Authorization"] == "Bearer right"
        said = b'{"processes": []}' if right else b'{"msg": "another secret is needed"}'
        return 200 if right else 403, said

    server = JsonServer(answer, "cloud").start()
    yield server.port
    server.close()


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def published(port: int, secret: str = "right", pid: int = 1) -> Path:
    return publish(CloudAddress(pid=pid, port=port, secret=secret), make_folder())


def test_the_one_that_runs(port: int) -> None:
    path = published(port)
    published(1)  # its command was killed, and nobody took the file away
    assert find().port == port
    assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0


def test_several(port: int) -> None:
    paths = [published(port, pid=1), published(port, pid=2)]
    with pytest.raises(NoCloud, match="2 clouds run; say which") as caught:
        find()
    assert all(f"--cloud {path}" in str(caught.value) for path in paths)
    assert find(paths[1]).pid == 2


def test_none() -> None:
    published(1)
    with pytest.raises(NoCloud, match="no cloud runs: `reattach up` starts one"):
        find()


def test_a_chosen_one_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NoCloud, match="does not run any more"):
        find(published(1))
    with pytest.raises(NoCloud, match="does not tell of a cloud"):
        find(tmp_path / "nothing")
    (tmp_path / "text").write_text("[]")
    with pytest.raises(NoCloud, match="does not tell of a cloud"):
        find(tmp_path / "text")


def test_a_wrong_secret_is_told(port: int) -> None:
    with pytest.raises(Refused, match="another secret is needed"):
        CloudAddress(pid=1, port=port, secret="wrong").call(CloudView, "GET", "cloud")
