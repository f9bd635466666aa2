"""The record of what an import began with: any change shows, and is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.pageserver.import_pgdata.bucket_object import BucketObject
from reattach.pageserver.import_pgdata.source import describe_changes, manifest_digest, write_manifest
from test_runner.unit.import_pgdata.listings import listings

BEFORE = [BucketObject("a", 8192, '"1"'), BucketObject("b", 8192, '"2"'), BucketObject("c", 0, '"3"')]


@given(listings(), st.data())
def test_any_change_changes_the_digest(objects: list[BucketObject], data: st.DataObject) -> None:
    """I1, I8: same contents, same digest; other name, size or ETag, another."""
    sources = sorted(objects)
    manifest = write_manifest(sources)
    objects.reverse()
    assert manifest == write_manifest(sorted(objects))
    i = data.draw(st.integers(0, len(sources) - 1))
    source = sources[i]
    changed = data.draw(
        st.sampled_from(
            [
                source._replace(path=source.path + "x"),
                source._replace(size=source.size + 8192),
                source._replace(version='"other"'),
            ]
        )
    )
    others = [*sources[:i], changed, *sources[i + 1 :]]
    assert manifest_digest(write_manifest(others)) != manifest_digest(manifest)
    assert source.path in describe_changes(manifest, sorted(others))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (BEFORE, "no object of the bucket changed"),
        (BEFORE[1:], "a was removed"),
        ([*BEFORE, BucketObject("d", 0, '"4"')], "d was added"),
        ([BEFORE[0]._replace(size=16384), *BEFORE[1:]], "a had 8192 bytes and has 16384"),
        ([BEFORE[0]._replace(version='"9"'), *BEFORE[1:]], 'a has other content ("1", now "9")'),
        ([], "a was removed, b was removed, c was removed"),
    ],
)
def test_changes_are_named(now: list[BucketObject], expected: str) -> None:
    assert describe_changes(write_manifest(BEFORE), now) == expected


def test_only_the_first_changes_are_named() -> None:
    now = [BucketObject(f"n{i}", 0, "") for i in range(4)]
    assert describe_changes(write_manifest([]), now).endswith("n2 was added and 1 more objects")


def test_a_lost_or_spoilt_record_is_said_so() -> None:
    assert describe_changes(None, BEFORE) == "the record of the objects that it began with is gone"
    assert "cannot be read" in describe_changes(b"{", BEFORE)
