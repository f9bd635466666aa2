"""Which pageserver has a shard, as far as memory and database agree."""

from __future__ import annotations

from reattach.api.ids import TenantShardId
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.core.reconcile_plan import is_attached_as_recorded
from reattach.storage_controller.db.shards import Issued
from reattach.storage_controller.state import State


def attached_node(state: State, shard_id: TenantShardId, issued: Issued | None) -> Node | None:
    """The node that has confirmed the attachment that the database issued.

    A call to it whose answer comes while `issued` still holds was made in the current generation, so what it
    has made durable is what any later attachment will find. None if there is no such node now.
    """
    shard = state.shard(shard_id)
    if shard is None or issued != Issued(shard.generation, shard.generation_node):
        return None
    if shard.intent.attached is None or not is_attached_as_recorded(shard):
        return None
    node = state.nodes.get(shard.intent.attached)
    return node if node is not None and node.is_available else None
