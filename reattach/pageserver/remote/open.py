"""From the configuration to a storage."""

from __future__ import annotations

from reattach.pageserver.config.remote_storage import LocalFsConfig, RemoteStorageConfig
from reattach.pageserver.remote.local import LocalStorage
from reattach.pageserver.remote.storage import RemoteStorage


def open_storage(config: RemoteStorageConfig) -> RemoteStorage:
    """Raises ValueError if the configuration cannot describe a storage."""
    if isinstance(config, LocalFsConfig):
        return LocalStorage(config.local_path)
    from obstore.exceptions import BaseError  # 30 ms that a local directory does not need

    from reattach.pageserver.remote.s3 import S3Storage

    try:
        return S3Storage(config)
    except BaseError as e:
        raise ValueError(f"remote storage cannot be opened: {e}") from e
