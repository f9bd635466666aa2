"""Small data directories, as an import bucket in a directory holds them."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from reattach.api.key import BLCKSZ

CATALOG_VERSIONS = {14: 202107181, 15: 202209061, 16: 202307071, 17: 202406281}
RELMAP_SIZES = {14: 512, 15: 512, 16: 524, 17: 524}

SHUT_DOWN = 1

NEXT_XID = 32768 + 100
NEXT_MULTI = 655360 + 2 * 2048 + 5
NEXT_MEMBER = 100


def control_file(
    *,
    pg_version: int = 16,
    catalog_version: int | None = None,
    state: int = SHUT_DOWN,
    checkpoint: int = 0x1500028,
    page_checksums: bool = False,
    size: int = 8192,
    redo: int | None = None,
    counters: dict[int, int] | None = None,
) -> bytes:
    """A control file as Postgres writes it, as far as an import looks at it."""
    raw = bytearray(296)
    struct.pack_into("<Q", raw, 0, 7_300_000_000_000_000_000)
    control_version = 1700 if pg_version == 17 else 1300
    catalog = CATALOG_VERSIONS[pg_version] if catalog_version is None else catalog_version
    struct.pack_into("<III", raw, 8, control_version, catalog, state)
    struct.pack_into("<QQ", raw, 32, checkpoint, checkpoint if redo is None else redo)
    struct.pack_into("<Q4xIII4xI", raw, 64, NEXT_XID, NEXT_MULTI, NEXT_MEMBER, 3, 655361)
    for offset, value in (counters or {}).items():
        struct.pack_into("<I", raw, offset, value)
    raw[56] = 1
    struct.pack_into("<IdIIII", raw, 204, 8, 1234567.0, BLCKSZ, 131072, 8192, 16 << 20)
    struct.pack_into("<I", raw, 252, int(page_checksums))
    return with_crc(raw, size)


def relmap(pg_version: int, mapped: dict[int, int]) -> bytes:
    """A relation map as Postgres writes it: file numbers by oid."""
    most = {14: 62, 15: 62, 16: 64, 17: 64}[pg_version]
    raw = struct.pack("<ii", 0x592717, len(mapped)) + b"".join(struct.pack("<II", *e) for e in mapped.items())
    raw = raw.ljust(8 + 8 * most, b"\0")
    crc: int = google_crc32c.value(raw)
    return (raw + crc.to_bytes(4, "little")).ljust(RELMAP_SIZES[pg_version], b"\0")


def with_crc(raw: bytes | bytearray, size: int = 8192) -> bytes:
    """The control file with the CRC that its fields need."""
    crc: int = google_crc32c.value(bytes(raw[:288]))
    return bytes(raw[:288]) + crc.to_bytes(4, "little") + bytes(size - 292)


@dataclass
class DataDirectory:
    """An import bucket below `root`."""

    root: Path
    pg_version: int = 16

    def write(self, path: str, content: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def write_pages(self, path: str, pages: int, *, seed: int = 0) -> None:
        """Pages of which some compress well, some not, some are zero."""
        rng = random.Random(f"{path} {seed}")
        kinds = (rng.randbytes, lambda n: rng.randbytes(16) * (n // 16), bytes)
        self.write(path, b"".join(rng.choice(kinds)(BLCKSZ) for _ in range(pages)))

    def set_done(self) -> None:
        self.write("status/pgdata", b'{"done":true}')

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every file below a directory, by path."""
        files = sorted((self.root / prefix).rglob("*"))
        return {str(file.relative_to(self.root)): file.read_bytes() for file in files if file.is_file()}


def small_data_directory(root: Path, *, pg_version: int = 16) -> DataDirectory:
    """Two databases, several relations with forks, every SLRU."""
    data = DataDirectory(root, pg_version)
    data.write("pgdata/PG_VERSION", f"{pg_version}\n".encode())
    data.write("pgdata/global/pg_control", control_file(pg_version=pg_version))
    data.write("pgdata/global/pg_filenode.map", relmap(pg_version, {1262: 1262}))
    data.write_pages("pgdata/global/1262", 1)
    for database in (1, 5):
        base = f"pgdata/base/{database}"
        data.write(f"{base}/pg_filenode.map", relmap(pg_version, {1249: 1249, 1259: 16384}))
        data.write(f"{base}/PG_VERSION", b"16\n")
        data.write_pages(f"{base}/1249", 30)
        data.write_pages(f"{base}/1249_fsm", 3)
        data.write_pages(f"{base}/1249_vm", 1)
        data.write_pages(f"{base}/16384", 70)
        data.write_pages(f"{base}/16390", 0)
        data.write_pages(f"{base}/16391", 0)
        data.write_pages(f"{base}/16391_init", 1)
        data.write_pages(f"{base}/t3_16400", 2)
    data.write_pages("pgdata/pg_xact/0000", 2)
    data.write_pages("pgdata/pg_multixact/members/0000", 1)
    data.write_pages("pgdata/pg_multixact/offsets/0000", 1)
    data.write_pages("pgdata/pg_multixact/offsets/000A", 3)
    data.set_done()
    return data
