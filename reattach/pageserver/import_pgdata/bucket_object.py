"""What a listing says of an object."""

from __future__ import annotations

from typing import NamedTuple


class BucketObject(NamedTuple):
    """An object of the import bucket.

    path: relative to the import's location.
    size: bytes.
    version: the store's mark of this content (S3: the ETag); changes whenever the content changes.
    """

    path: str
    size: int
    version: str
