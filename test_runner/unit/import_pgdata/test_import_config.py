"""The import's configuration refuses what could not work."""

from __future__ import annotations

from typing import Any

import pytest

from reattach.pageserver.import_pgdata.config import ImportConfig

LIMITS = (
    "import_job_concurrency",
    "import_job_soft_size_limit",
    "import_job_checkpoint_threshold",
    "import_job_max_byte_range_size",
)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, None])
def test_limits_are_whole_numbers_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ImportConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("stall_timeout", 0), ("stall_timeout", True), ("verify_checksums", 1)]
)
def test_other_fields(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ImportConfig(**{name: value})


def test_defaults_are_those_of_the_real_system() -> None:
    config = ImportConfig()
    assert [getattr(config, name) for name in LIMITS] == [32, 256 << 20, 32, 4 << 20]
    assert str(config.compression) == "zstd(1)"
