"""JSON forms that both sides of the wire share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api import codec
from reattach.api.import_status import (
    Done,
    Error,
    InProgress,
    ShardImportProgress,
    ShardImportStatus,
)
from reattach.api.location import AwsS3, ImportLocation, LocalFs

progresses = st.builds(
    ShardImportProgress,
    st.integers(0, 2**32),
    st.integers(0, 2**32),
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**63 - 1),
)
statuses = st.one_of(
    st.just(Done()), st.builds(Error, st.text()), st.builds(InProgress, st.none() | progresses)
)


@given(statuses)
def test_statuses_read_back(status: ShardImportStatus) -> None:
    assert codec.decode(codec.encode(status), ShardImportStatus) == status
    assert status.is_terminal == isinstance(status, Done | Error)


def test_status_texts() -> None:
    progress = ShardImportProgress(7, 3, 2**64 - 1, 8192)
    assert codec.encode(InProgress(None)) == b'{"InProgress":null}'
    assert codec.encode(InProgress(progress)) == (
        b'{"InProgress":{"V1":{"jobs":7,"completed":3,"import_plan_hash":18446744073709551615,'
        b'"job_soft_size_limit":8192}}}'
    )
    assert codec.encode(Done()) == b'"Done"'
    assert codec.encode(Error("why")) == b'{"Error":"why"}'


@pytest.mark.parametrize(
    "text",
    [
        '"done"',
        "{}",
        '{"InProgress":{}}',
        '{"Error":1}',
        '{"InProgress":{"V1":{"jobs":1}}}',
        "1",
        '{"Done":null}',
    ],
)
def test_other_statuses_are_refused(text: str) -> None:
    with pytest.raises(codec.DecodeError):
        codec.decode(text, ShardImportStatus)


@given(st.one_of(st.builds(AwsS3, st.text(), st.text(), st.text()), st.builds(LocalFs, st.text())))
def test_locations_read_back(place: AwsS3 | LocalFs) -> None:
    location = ImportLocation(place)
    assert codec.decode(codec.encode(location), ImportLocation) == location
    assert list(json.loads(codec.encode(location))) == [type(place).__name__]


@pytest.mark.parametrize("text", ["{}", '{"AwsS3":{}}', '{"Gcs":{}}', '{"LocalFs":{"path":1}}', "null"])
def test_other_locations_are_refused(text: str) -> None:
    with pytest.raises(codec.DecodeError):
        codec.decode(text, ImportLocation)
