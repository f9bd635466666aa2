"""Who this pageserver is (`identity.toml`) and where others reach it (`metadata.json`)."""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path

import msgspec

from reattach.api.ids import NodeId
from reattach.api.upcall import NodeRegisterRequest
from reattach.pageserver.config.errors import ConfigError

log = logging.getLogger(__name__)

FILE = "identity.toml"
METADATA_FILE = "metadata.json"


def load_node_id(workdir: Path) -> NodeId:
    """The `id` of `identity.toml`. Raises ConfigError."""
    path = workdir / FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(FILE, "", f"cannot be read: {e.strerror}: {path}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(FILE, "", f"is not TOML: {e}") from e
    node_id = table.get("id")
    if node_id is None:
        raise ConfigError(FILE, "id", "is required and missing")
    if type(node_id) is not int or node_id < 0:
        raise ConfigError(FILE, "id", f"must be a whole number, not {node_id!r}")
    return NodeId(node_id)


class _Metadata(msgspec.Struct, frozen=True):
    host: str
    port: int
    http_host: str
    http_port: int
    grpc_host: str | None = None
    grpc_port: int | None = None
    https_port: int | None = None
    availability_zone_id: str | None = None


def load_registration(
    workdir: Path, node_id: NodeId, availability_zone: str | None
) -> NodeRegisterRequest | None:
    """What `metadata.json` says, for the controller; None without the file or with one that cannot be read.

    Raises ConfigError if neither the file nor the configuration names an availability zone.
    """
    path = workdir / METADATA_FILE
    try:
        metadata = msgspec.json.decode(path.read_bytes(), type=_Metadata)
    except FileNotFoundError:
        log.info("no %s: this node does not register itself", METADATA_FILE)
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        log.error("Unreadable %s, this node does not register itself: %s", METADATA_FILE, e)
        return None
    zone = metadata.availability_zone_id or availability_zone
    if zone is None:
        raise ConfigError(
            METADATA_FILE,
            "availability_zone_id",
            "must be set here, or `availability_zone` in pageserver.toml",
        )
    return NodeRegisterRequest(
        node_id=node_id,
        listen_pg_addr=metadata.host,
        listen_pg_port=metadata.port,
        listen_http_addr=metadata.http_host,
        listen_http_port=metadata.http_port,
        availability_zone_id=zone,
        listen_grpc_addr=metadata.grpc_host,
        listen_grpc_port=metadata.grpc_port,
        listen_https_port=metadata.https_port,
        node_ip_addr=os.environ.get("HADRON_NODE_IP_ADDRESS"),
    )
