"""The judge on histories of a real system, as it was once and as it is: what effects show of its faults."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from reattach.api.history import parse
from reattach.fixtures.judge.by_subject import judge

HISTORIES = Path(__file__).parent / "real"

FAULTS = {
    "plan_hash_changes": {"I2", "I5"},
    "killed_after_the_first_index": {"I10"},
    "killed_before_the_second_index": {"I10"},
    "killed_after_done": {"I2", "I5", "I7", "I10"},
    "creation_refused_without_end": {"I10"},
    "late_progress_of_an_old_generation": {"I2", "I4"},
    "late_progress_met_by_chance": {"I2", "I4"},
    "not_attached_after_a_restart": {"I10"},
    "not_attached_after_a_detach": {"I10"},
    "deleted_and_imported_all_the_same": {"I7"},
}
"""By its name the numbers of the invariants that a history shows broken."""


@pytest.mark.parametrize("name", FAULTS)
def test_real_faults_are_seen(name: str) -> None:
    history = parse(gzip.decompress((HISTORIES / f"{name}.jsonl.gz").read_bytes()), name)
    assert {verdict.number for verdict in judge(history).failures} == FAULTS[name]


def test_every_history_is_judged() -> None:
    assert {path.name.removesuffix(".jsonl.gz") for path in HISTORIES.iterdir()} == set(FAULTS)
