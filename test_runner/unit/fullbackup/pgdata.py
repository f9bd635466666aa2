"""Small data directories that are made of nothing but what an import reads."""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c

from reattach.api.key import BLCKSZ

CATALOG_VERSIONS = {14: 202107181, 15: 202209061, 16: 202307071, 17: 202406281}
SYSTEM_IDENTIFIER = 0x0123456789ABCDEF


def control_file(
    *,
    checkpoint: int = 0x1500028,
    version: int = 16,
    state: int = 1,
    timeline: int = 1,
    segment_size: int = 16 << 20,
    page_size: int = 8192,
) -> bytes:
    """A `pg_control` whose fields are these."""
    raw = bytearray(8192)
    struct.pack_into("<QII", raw, 0, SYSTEM_IDENTIFIER, 1300, CATALOG_VERSIONS[version])
    struct.pack_into("<I", raw, 16, state)
    struct.pack_into("<qQ", raw, 24, 1_700_000_000, checkpoint)
    struct.pack_into("<QII?", raw, 40, checkpoint, timeline, timeline, True)
    struct.pack_into("<QIII", raw, 40 + 24, 0x2D7, 16384, 1, 0)
    struct.pack_into("<IIII", raw, 216, BLCKSZ, 131072, page_size, segment_size)
    struct.pack_into("<I", raw, 288, google_crc32c.value(bytes(raw[:288])))
    return bytes(raw)


def pages(seed: int, count: int) -> bytes:
    """Pages, no two of which are alike."""
    return b"".join(struct.pack("<II", seed, block) * (BLCKSZ // 8) for block in range(count))


def make_pgdata(directory: Path, *, version: int = 16, relations: dict[str, int] | None = None) -> Path:
    """A data directory of two databases. `relations`: further files, by path, and their sizes in blocks."""
    files = {
        "PG_VERSION": f"{version}\n".encode(),
        "global/pg_control": control_file(version=version),
        "pg_multixact/members/0000": pages(901, 2),
        "pg_multixact/offsets/0000": pages(902, 1),
        "pg_xact/0000": pages(903, 3),
        "pg_xact/0001": pages(904, 1),
    }
    for number, database in enumerate(("base/1", "base/5", "global")):
        files[f"{database}/pg_filenode.map"] = bytes([number + 1]) * 524
        files[f"{database}/1259"] = pages(100 * number + 1, 5 + number)
        files[f"{database}/1259_fsm"] = pages(100 * number + 2, 3)
        files[f"{database}/1259_vm"] = pages(100 * number + 3, 1)
    files["base/5/16384"] = pages(1, 40)
    files["base/5/16385"] = b""
    files["base/5/16386"] = files["base/5/16386_init"] = pages(3, 1)
    for number, (path, blocks) in enumerate((relations or {}).items()):
        files[path] = pages(1000 + number, blocks)
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    return directory
