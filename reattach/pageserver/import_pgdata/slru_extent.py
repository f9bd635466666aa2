"""Whether the transaction status that a control file speaks of is there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reattach.api.key import SlruKind
from reattach.pageserver.import_pgdata.control_file import ControlFile
from reattach.pageserver.import_pgdata.errors import ObjectError
from reattach.pageserver.import_pgdata.pgdata import SLRU_BLOCKS, Segment

XACTS_PER_PAGE = 32768
MULTIXACTS_PER_PAGE = 2048
MEMBERS_PER_PAGE = 1636

_IDS = 1 << 32
_PAGES = {
    SlruKind.CLOG: _IDS // XACTS_PER_PAGE,
    SlruKind.MULTIXACT_OFFSETS: _IDS // MULTIXACTS_PER_PAGE,
    SlruKind.MULTIXACT_MEMBERS: -(-_IDS // MEMBERS_PER_PAGE),
}


def check_extent(slru: Mapping[SlruKind, Sequence[Segment]], control_file: ControlFile) -> None:
    """Raises ObjectError for a segment that is missing or too short."""
    counters = control_file.counters
    last_xid = counters.next_xid - 1
    _check(slru, SlruKind.CLOG, counters.oldest_xid // XACTS_PER_PAGE, last_xid % _IDS // XACTS_PER_PAGE)
    oldest, following = counters.oldest_multi, counters.next_multi
    if following % MULTIXACTS_PER_PAGE:
        # Postgres reads the page of the next one when it starts.
        last = following
    elif oldest != following:
        last = (following - 1) % _IDS
    else:
        last = -1
    if last >= 0:
        first_page = oldest // MULTIXACTS_PER_PAGE
        _check(slru, SlruKind.MULTIXACT_OFFSETS, first_page, last // MULTIXACTS_PER_PAGE)
    # Where the oldest members are only the offsets' pages know; but Postgres removes whole segments in order.
    last_page = max(counters.next_member - 1, 0) // MEMBERS_PER_PAGE
    _check(slru, SlruKind.MULTIXACT_MEMBERS, _first_member_page(slru, last_page), last_page)


def _first_member_page(slru: Mapping[SlruKind, Sequence[Segment]], last_page: int) -> int:
    """That of the oldest segment. Numbers are a ring, so those beyond the last are older than the others."""
    numbers = [segment.segno for segment in slru[SlruKind.MULTIXACT_MEMBERS]]
    last = last_page // SLRU_BLOCKS
    if not numbers:
        return last_page - last_page % SLRU_BLOCKS
    beyond = [number for number in numbers if number > last]
    return (min(beyond) if beyond else min(*numbers, last)) * SLRU_BLOCKS


def _check(
    slru: Mapping[SlruKind, Sequence[Segment]], kind: SlruKind, first_page: int, last_page: int
) -> None:
    found = {segment.segno: segment for segment in slru[kind]}
    for segno in _segments(first_page, last_page, _PAGES[kind]):
        end = last_page + 1 if segno == last_page // SLRU_BLOCKS else _PAGES[kind]
        wanted = min(SLRU_BLOCKS, end - segno * SLRU_BLOCKS)
        segment = found.get(segno)
        if segment is None:
            path = f"pgdata/{kind.directory}/{segno:04X}"
            raise ObjectError(path, "is missing, though the control file says that it is in use")
        if segment.blocks < wanted:
            raise ObjectError(
                segment.source.path,
                f"has {segment.blocks} blocks, though the control file says that {wanted} are in use",
            )


def _segments(first_page: int, last_page: int, pages: int) -> Iterable[int]:
    first, last, ring = first_page // SLRU_BLOCKS, last_page // SLRU_BLOCKS, -(-pages // SLRU_BLOCKS)
    if first <= last:
        return range(first, last + 1)
    return [*range(first, ring), *range(last + 1)]
