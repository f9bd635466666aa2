"""Numbers in requests: no larger than everything behind a service can hold."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from reattach.api.ids import NodeId

MAX_GIVEN_GENERATION = 2**30

NodeNumber = Annotated[NodeId, Meta(ge=0, le=2**63 - 1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Byte = Annotated[int, Meta(ge=0, le=255)]
StripeSize = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""In pages."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]

Generation = Annotated[int, Meta(ge=0, le=2**32 - 1)]
GivenGeneration = Annotated[int, Meta(ge=0, le=MAX_GIVEN_GENERATION)]
"""One that a client of the storage controller sets: there must be enough left for all that follow."""
