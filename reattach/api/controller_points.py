"""The controller's durable writes and outgoing calls, and the failpoints around each of them.

Every write has a failpoint before its transaction and one after its commit; every call one before it is sent
and one after its answer has come. A process that dies at any of them loses nothing.
"""

from __future__ import annotations

from enum import StrEnum


class Read(StrEnum):
    """Transactions that change nothing."""

    LOAD_NODES = "load_nodes"
    LOAD_SHARDS = "load_shards"
    GENERATIONS = "generations"
    LIST_IMPORTS = "list_imports"
    IMPORT = "import"
    IMPORT_STATUS = "import_status"
    LEADER = "leader"
    OWED_DELETIONS = "owed_deletions"


class Write(StrEnum):
    """Transactions that change something."""

    MIGRATE_SCHEMA = "migrate_schema"
    BECOME_LEADER = "become_leader"
    INSERT_NODE = "insert_node"
    UPDATE_NODE = "update_node"
    DELETE_NODE = "delete_node"
    RE_ATTACH = "re_attach"
    INSERT_TENANT = "insert_tenant"
    UPDATE_TENANT = "update_tenant"
    DELETE_TENANT = "delete_tenant"
    INCREMENT_GENERATION = "increment_generation"
    ATTACH_HOOK = "attach_hook"
    INSERT_IMPORT = "insert_import"
    IMPORT_CREATED = "import_created"
    UPDATE_IMPORT = "update_import"
    FINISH_IMPORT = "finish_import"
    DELETE_IMPORT = "delete_import"
    DELETE_ORPHAN_IMPORTS = "delete_orphan_imports"


class Call(StrEnum):
    """Requests to pageservers and to the control plane that change something there."""

    LOCATION_CONFIG = "location_config"
    TIMELINE_CREATE = "timeline_create"
    TIMELINE_DELETE = "timeline_delete"
    TENANT_DELETE = "tenant_delete"
    ACTIVATE_POST_IMPORT = "activate_post_import"
    SECONDARY_DOWNLOAD = "secondary_download"
    WAIT_LSN = "wait_lsn"
    IMPORT_COMPLETE = "import_complete"
    NOTIFY_ATTACH = "notify_attach"


def before(point: Write | Call) -> str:
    """The failpoint before the write or call."""
    return f"{_prefix(point)}-{point.replace('_', '-')}-pre"


def after(point: Write | Call) -> str:
    """The failpoint after the commit, or after the answer has come."""
    return f"{_prefix(point)}-{point.replace('_', '-')}-post"


def _prefix(point: Write | Call) -> str:
    return "storcon-write" if isinstance(point, Write) else "storcon-call"


class Point(StrEnum):
    """Failpoints with names of their own, inside of longer operations."""

    TIMELINE_CREATE_LOCKED = "tenant-create-timeline-shared-lock"
    UPDATE_POLICY_LOCKED = "tenant-update-policy-exclusive-lock"
    IMPORT_PRE_NOTIFICATION = "timeline-import-pre-cplane-notification"
    IMPORT_POST_ACTIVATION = "timeline-import-post-activation"
    MIGRATE_PRE_GENERATION = "reconciler-live-migrate-pre-generation-inc"
    MIGRATE_POST_GENERATION = "reconciler-live-migrate-post-generation-inc"
    MIGRATE_PRE_AWAIT_LSN = "reconciler-live-migrate-pre-await-lsn"
    MIGRATE_POST_NOTIFY = "reconciler-live-migrate-post-notify"
    MIGRATE_POST_DETACH = "reconciler-live-migrate-post-detach"
    PRE_INCREMENT_GENERATION = "reconciler-pre-increment-generation"
    RECONCILER_EPILOGUE = "reconciler-epilogue"
    HEARTBEAT_PRE_CONFIGURE = "heartbeat-pre-node-state-configure"


PLACES: dict[Point, str] = {
    Point.TIMELINE_CREATE_LOCKED: "a timeline is to be created, and holds the tenant's lock with others",
    Point.UPDATE_POLICY_LOCKED: "a policy is to be changed, and holds the tenant's lock alone",
    Point.IMPORT_PRE_NOTIFICATION: "every shard has ended; nothing is active, the control plane is not told",
    Point.IMPORT_POST_ACTIVATION: "the timeline is active on every shard, the control plane is not told",
    Point.MIGRATE_PRE_GENERATION: "a live migration: the destination is warm and has no generation",
    Point.MIGRATE_POST_GENERATION: "… it has one, and is not attached",
    Point.MIGRATE_PRE_AWAIT_LSN: "… it is attached beside the origin",
    Point.MIGRATE_POST_NOTIFY: "… computes know of it",
    Point.MIGRATE_POST_DETACH: "… the origin is detached",
    Point.PRE_INCREMENT_GENERATION: "a generation is about to be issued",
    Point.RECONCILER_EPILOGUE: "a reconcile has done its work",
    Point.HEARTBEAT_PRE_CONFIGURE: "a pageserver's state is about to change, as it answers (or does not)",
}
"""Where each of them is."""

ALL_POINTS: tuple[str, ...] = (
    *(name for write in Write for name in (before(write), after(write))),
    *(name for call in Call for name in (before(call), after(call))),
    *Point,
)
