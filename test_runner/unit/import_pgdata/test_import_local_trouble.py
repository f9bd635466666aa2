"""Errors of the local disk are waited out, up to a bound (I10, I11)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from reattach.api.import_status import Done
from reattach.api.shard import ShardIdentity
from reattach.pageserver.import_pgdata import local_trouble
from reattach.pageserver.import_pgdata.errors import ImportFailed
from reattach.pageserver.import_pgdata.local_trouble import despite_local_trouble, open_layers
from reattach.pageserver.layers.blobs import FramedBatch
from reattach.pageserver.layers.image_layer_writer import ImageLayerWriter
from test_runner.unit.import_pgdata.data_directory import small_data_directory
from test_runner.unit.import_pgdata.fakes import FakeTimeline
from test_runner.unit.import_pgdata.imports import SMALL_JOBS, Import, expected_content

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/layer")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def back_off(failures: int) -> None:
        await asyncio.sleep(0.001)

    monkeypatch.setattr(local_trouble, "back_off", back_off)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EDQUOT, errno.EIO])
def test_an_import_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """I8, I10: a job that was cut off begins anew, and nothing of it is left behind."""
    data = small_data_directory(tmp_path / "bucket")
    an_import = Import.make(data, tmp_path / "timeline")
    append, finish, add_layer = ImageLayerWriter.append, ImageLayerWriter.finish, FakeTimeline.add_layer
    left = {"append": 3, "finish": 2, "add": 2}

    def fail(what: str) -> None:
        if left[what]:
            left[what] -= 1
            raise OSError(number, os.strerror(number))

    def failing_append(self: ImageLayerWriter, batch: FramedBatch) -> None:
        append(self, batch)
        fail("append")

    def failing_finish(self: ImageLayerWriter) -> object:
        fail("finish")
        return finish(self)

    async def failing_add(self: FakeTimeline, *args: object) -> bool:
        fail("add")
        return await add_layer(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageLayerWriter, "append", failing_append)
    monkeypatch.setattr(ImageLayerWriter, "finish", failing_finish)
    monkeypatch.setattr(FakeTimeline, "add_layer", failing_add)
    an_import.run()
    assert left == {"append": 0, "finish": 0, "add": 0}
    assert an_import.controller.status == Done()
    assert an_import.content() == expected_content(data, ShardIdentity())


def test_a_disk_that_stays_full_ends_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: with what was being done, and the error."""

    def append(self: ImageLayerWriter, batch: FramedBatch) -> None:
        raise FULL

    monkeypatch.setattr(ImageLayerWriter, "append", append)
    an_import = Import.make(small_data_directory(tmp_path / "bucket"), tmp_path / "timeline")
    an_import.config = replace(SMALL_JOBS, local_patience=0.05)
    an_import.run()
    assert an_import.controller.error.startswith("writing the layer of keys ")
    assert "No space left on device: '/a/layer'" in an_import.controller.error


def test_the_bound_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls = []

    async def attempt() -> str:
        calls.append(1)
        if len(calls) < 6:
            raise FULL
        return "done"

    assert asyncio.run(despite_local_trouble("a thing", 60, attempt)) == "done"
    assert "a thing failed, will retry for 60 s (attempt 5)" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3 + ["WARNING"] * 2


def test_other_errors_are_not_retried() -> None:
    async def attempt() -> None:
        raise ImportFailed("x")

    with pytest.raises(ImportFailed, match="x"):
        asyncio.run(despite_local_trouble("a thing", 60, attempt))


def open_temp_files() -> int:
    """Of this process. A file that was written lies there a moment longer than it is open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return sum(link.endswith(".___temp") for link in links)


def test_layers_that_are_written_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I12: by the process, not by the import."""
    monkeypatch.setattr(local_trouble, "_MOST_OPEN_LAYERS", 2)
    most = 0
    write = ImageLayerWriter.append

    def append(self: ImageLayerWriter, batch: FramedBatch) -> None:
        nonlocal most
        most = max(most, open_temp_files())
        write(self, batch)

    monkeypatch.setattr(ImageLayerWriter, "append", append)
    data = small_data_directory(tmp_path / "bucket")
    imports = [Import.make(data, tmp_path / f"timeline{n}") for n in range(3)]

    async def all_of_them() -> None:
        assert open_layers() is open_layers()
        await asyncio.gather(*(each.attempt() for each in imports))

    asyncio.run(all_of_them())
    assert [each.controller.status for each in imports] == [Done()] * 3
    assert 1 <= most <= 2
