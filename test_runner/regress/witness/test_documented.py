"""What the documentation lists of an import is what an import does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reattach.api.history import Arrived, History, Read
from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.imports.bucket import S3ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.remote_storage import RemoteStorageKind
from reattach.fixtures.witness.catalogue import FORMS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "import.md"
PLACEHOLDERS = {
    "TIMELINE": "[0-9a-f]{32}",
    "FROM": "[0-9A-F]{36}",
    "TO": "[0-9A-F]{36}",
    "LSN": "[0-9A-F]{16}",
    "GENERATION": "[0-9a-f]{8}",
}


def test_every_effect_and_object_of_an_import_is_documented(
    neon_env_builder: NeonEnvBuilder, import_bucket: S3ImportBucket
) -> None:
    neon_env_builder.num_pageservers = 2
    neon_env_builder.enable_pageserver_remote_storage(RemoteStorageKind.MOCK_S3)
    env = neon_env_builder.init_start()
    storage = env.pageserver_remote_storage
    assert storage is not None

    killed = env.start_import(import_bucket, shard_count=2, hold=after_job(6))
    killed.wait_at(after_job(6))
    killed.kill().start()
    killed.release_all()
    killed.wait_done()
    killed.detach()
    killed.attach()
    killed.pageserver_of(0).http_client().tenant_heatmap_upload(killed.shards[0])
    deleted = env.start_import(import_bucket, hold=after_job(6))
    deleted.wait_at(after_job(6))
    deleted.delete()
    deleted.assert_gone()
    objects = [entry.key for entry in storage.list_objects()]

    seen = forms_in(env.world.history())
    reads = {form.name: form.reads for form in FORMS}
    assert seen.keys() <= reads.keys(), "fixtures/witness/catalogue.py does not know them"
    assert seen == {name: reads[name] for name in seen}
    assert {form.name for form in FORMS if not form.seldom} <= seen.keys()

    rows = dict(documented_objects())
    found = {key: [row for row, pattern in rows.items() if re.fullmatch(pattern, key)] for key in objects}
    assert all(len(matching) == 1 for matching in found.values()), found
    assert {row for matching in found.values() for row in matching} == rows.keys()


def forms_in(history: History) -> dict[str, bool]:
    """The effects that an import has, as the catalogue writes them, and whether they only read."""
    found = {}
    for line in history.lines:
        if isinstance(line, Arrived | Read):
            name = re.sub(r" #\d+$", "", line.name)
            name = re.sub(r" \((\d+|initial)\)$", "", name)
            name = re.sub(r"\bpageserver_\d+", "pageserver_N", name)
            name = re.sub(r" [0-9a-f]{4}$", " SHARD", name)
            found[name] = isinstance(line, Read) or line.reads
    return found


def documented_objects() -> Iterator[tuple[str, str]]:
    """Each row of the page's table, and an expression for keys in remote storage."""
    section = PAGE.read_text().partition("## Where it lies")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE):
        pattern = re.escape(row).replace(r"\-", "-")
        for name, expression in PLACEHOLDERS.items():
            pattern = re.sub(rf"(?<![A-Z]){name}(?![A-Z])", expression, pattern)
        yield row, rf"tenants/[0-9a-f]{{32}}(-[0-9a-f]{{4}})?/{pattern}"
