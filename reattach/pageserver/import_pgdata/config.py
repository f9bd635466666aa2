"""How imports run on this pageserver."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from reattach.pageserver.layers.compression import ImageCompression

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """The `timeline_import_config` table, and what other keys say about imports. Raises ValueError.

    import_job_concurrency: jobs that run at a time.
    import_job_soft_size_limit: bytes of pages that a job is meant to have.
    import_job_checkpoint_threshold: jobs between two checkpoints.
    import_job_max_byte_range_size: bytes that one read of the bucket asks for at most.
    stall_timeout: seconds without a byte after which a request to the bucket is given up and made again.
    local_patience: seconds for which errors of the local disk are retried before they end an import.
    verify_checksums: check the checksum of every page where the cluster has them.
    aws_endpoint_url: of the import bucket; None for what the AWS environment says.
    """

    import_job_concurrency: int = 32
    import_job_soft_size_limit: int = 256 * MIB
    import_job_checkpoint_threshold: int = 32
    import_job_max_byte_range_size: int = 4 * MIB
    stall_timeout: float = 10.0
    local_patience: float = 3600.0
    verify_checksums: bool = False
    compression: ImageCompression = field(default_factory=ImageCompression)
    aws_endpoint_url: str | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.startswith("import_job_") and (type(value) is not int or value <= 0):
                raise ValueError(f"{each.name} must be a whole number above zero, not {value!r}")
        for name in ("stall_timeout", "local_patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not value > 0:
                raise ValueError(f"{name} must be above zero, not {value!r}")
        if type(self.verify_checksums) is not bool:
            raise ValueError(f"verify_checksums must be true or false, not {self.verify_checksums!r}")
