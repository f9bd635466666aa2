"""Values that keep a fuzzed cloud small and on this machine: few ids, loopback, harmless failpoints."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = Any

TENANTS = tuple(f"{n:032x}" for n in range(1, 6))
TIMELINES = tuple(f"{n:032x}" for n in range(0x101, 0x105))
SHARDS = (*TENANTS, *(f"{TENANTS[0]}-{n:02x}02" for n in range(2)))
NODES = (1, 77, 78)

POOLS: Mapping[str, Sequence[Json]] = {
    "tenant_id": TENANTS,
    "tenant_shard_id": SHARDS,
    "new_tenant_id": TENANTS,
    "id": SHARDS,
    "timeline_id": TIMELINES,
    "new_timeline_id": TIMELINES,
    "ancestor_timeline_id": (None, TIMELINES[0]),
    "node_id": NODES,
    "origin_node_id": (None, *NODES),
    "start_after": TENANTS,
    # No name may be asked of a name server, and nobody may be called who is not here.
    "listen_http_addr": ("127.0.0.1",),
    "listen_pg_addr": ("127.0.0.1", "", "ü", "a b"),
    "listen_grpc_addr": (None, "127.0.0.1"),
    "listen_http_port": (9,),
    "listen_https_port": (None,),
    # What a failpoint does is asked for by whoever sets it: ending the process, or making it wait.
    "name": ("fuzz-1", "fuzz-2"),
    "actions": ("off", "1*off", "2*return(x)", "nonsense", "", "101%off->", "off->return->x"),
    # A folder that is not there, and a bucket that nobody serves: an import waits for it, and nothing else.
    "path": ("/nonexistent", "", "relative", "/" + "x" * 300),
    "bucket": ("nobody", ""),
    "region": ("nowhere", ""),
    "key": ("prefix", ""),
    "shard_count": (0, 2, 3),
    "override_scheduler": (False,),
    "scheduling": (None, "Active", "Sometimes"),
    "availability": (None, "Active", "Sometimes"),
    "placement": (None, {"Attached": 0}, {"Attached": 1}, "Detached", "Secondary", "Nowhere"),
    "placement_policy": (None, {"Attached": 0}, "Detached"),
    "shard_parameters": ({"count": 0, "stripe_size": 8}, {"count": 2, "stripe_size": 8}),
}
"""By the name of a property or parameter: whatever else was chosen, its value is one of these."""


MISFITS = ("Sometimes", "Nowhere")
"""Those of their values that no description allows."""


def tame(value: Json, name: str = "", *, fits: bool = False) -> Json:
    """The value with what `POOLS` speaks of replaced, wherever it has the type that it should have.

    fits: what replaces it is allowed by the description, too.
    """
    pool = POOLS.get(name)
    if pool is not None and isinstance(value, str | int | None | dict):
        pool = [one for one in pool if one not in MISFITS] if fits else pool
        return pool[zlib.crc32(repr(value).encode("utf-8", "replace")) % len(pool)]
    if isinstance(value, dict):
        return {key: tame(inner, key, fits=fits) for key, inner in value.items()}
    if isinstance(value, list):
        return [tame(inner, fits=fits) for inner in value]
    return value
