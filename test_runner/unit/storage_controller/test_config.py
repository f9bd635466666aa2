"""The controller's command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reattach.storage_controller.config import parse_arguments

MINIMAL = ["-l", "127.0.0.1:1", "--database-url", "postgresql://x/y", "--dev"]


def test_what_neon_local_passes_is_taken() -> None:
    config, ignored = parse_arguments(
        [
            "--dev",
            *("--database-url", "postgresql://localhost:1/storage_controller"),
            *("--max-offline-interval", "10s"),
            *("--max-warming-up-interval", "30s"),
            *("--heartbeat-interval", "1s"),
            *("--address-for-peers", "http://localhost:1/"),
            *("--listen", "localhost:1"),
            "--use-local-compute-notifications",
            "--kick-secondary-downloads=true",
            "--ssl-ca-file=/x",
            "--jwt-token=t",
            '--public-key="-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n"',
            "--control-plane-url=http://localhost:2/storage/api/v1/",
            "--split-threshold=1",
            "--long-reconcile-threshold=2m",
            "--neon-local-repo-dir=/x",
            "--timelines-onto-safekeepers",
        ]
    )
    assert config.max_offline_interval == 10
    assert config.long_reconcile_threshold == 120
    assert config.use_local_compute_notifications
    assert config.public_key is not None and config.public_key.startswith("-----BEGIN")
    assert "timelines-onto-safekeepers" in ignored


def test_a_key_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN")
    config, _ = parse_arguments([*MINIMAL, "--public-key", str(tmp_path / "key.pem")])
    assert config.public_key == "-----BEGIN"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*MINIMAL, "--no-such-flag"], "unrecognized arguments: --no-such-flag"),
        ([*MINIMAL, "--heartbeat-interval", "fast"], "heartbeat-interval.*not a duration"),
        ([*MINIMAL, "--heartbeat-interval", "0s"], "heartbeat-interval must be more than zero"),
        ([*MINIMAL, "--use-local-compute-notifications=maybe"], "not true or false"),
        (["-l", "nonsense", *MINIMAL], "not an address"),
        (["--dev", "--database-url", "x"], "--listen"),
        (["--dev", "-l", "127.0.0.1:1"], "--database-url"),
        ([*MINIMAL, "--public-key", "/no/such/file"], "public-key"),
        ([*MINIMAL[:-1]], "without --dev"),
    ],
)
def test_bad_command_lines_are_refused_by_name(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DATABASE_URL", "PUBLIC_KEY", "PAGESERVER_JWT_TOKEN", "CONTROL_PLANE_JWT_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit) as exit_info:
        parse_arguments(arguments)
    assert exit_info.value.code == 2
    assert re.search(complaint, capsys.readouterr().err)
