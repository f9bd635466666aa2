"""Which generation's index an attach reads."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.pageserver.remote.index_choice import load_newest
from reattach.pageserver.remote.storage import ObjectNotFound

BASE = "tenants/t/timelines/l/index_part.json"

generations = st.one_of(st.none(), st.integers(0, 12), st.integers(0, 0xFFFFFFFF))


def name_of(generation: int | None) -> str:
    return BASE if generation is None else f"{BASE}-{generation:08x}"


class Storage:
    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.listings = 0

    async def get(self, name: str) -> str:
        if name not in self.names:
            raise ObjectNotFound(name)
        return f"content of {name}"

    async def list_names(self) -> list[str]:
        self.listings += 1
        return sorted(self.names)

    def load(self, generation: int) -> tuple[str, str]:
        return asyncio.run(load_newest(generation, name_of=name_of, get=self.get, list_names=self.list_names))


@given(st.sets(generations), st.integers(0, 0xFFFFFFFF))
def test_the_highest_generation_that_is_not_above_ours(found: set[int | None], ours: int) -> None:
    """I4: what a later attachment wrote is never read by an earlier one."""
    storage = Storage({name_of(each) for each in found})
    allowed = [-1 if each is None else each for each in found if each is None or each <= ours]
    if not allowed:
        with pytest.raises(ObjectNotFound):
            storage.load(ours)
        return
    best = max(allowed)
    name, content = storage.load(ours)
    assert name == name_of(None if best < 0 else best)
    assert content == f"content of {name}"


def test_common_attaches_do_not_list() -> None:
    storage = Storage({name_of(4), name_of(5), name_of(6)})
    assert storage.load(5)[0] == name_of(5)
    assert storage.load(7)[0] == name_of(6)
    assert storage.listings == 0
