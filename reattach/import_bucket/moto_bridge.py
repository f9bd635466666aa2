"""moto's S3 behind the lean server, for everything that importers do not use."""

from __future__ import annotations

from reattach.import_bucket.request import Request
from reattach.import_bucket.responses import Response, S3Error
from reattach.import_bucket.store import Store


class MotoBridge:
    def __init__(self, store: Store) -> None:
        self._store = store

    def wants(self, request: Request) -> bool:
        return request.wants_moto

    async def answer(self, request: Request) -> Response:
        raise S3Error(
            501, "NotImplemented", "A header you provided implies functionality that is not implemented"
        )

    def forget(self) -> None:
        pass
