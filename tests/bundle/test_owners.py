from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from composer.bundle.owners import EVERY, swapped

FIRST = 1 << 31
ids = st.one_of(st.integers(0, 65535), st.sampled_from([0, 1, 65534, 65535]))


def table(first: int, disk: int, inside: int) -> list[tuple[int, int, int]]:
    return [(row["containerID"], row["hostID"], row["size"]) for row in swapped(first, disk, inside)]


def seen(rows: list[tuple[int, int, int]], disk: int) -> int | None:
    found = [host + disk - begin for begin, host, size in rows if begin <= disk < begin + size]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_folder_of_a_developer_seen_by_root() -> None:
    assert table(0, 1000, 0) == [(0, 1000, 1), (1, 1, 999), (1000, 0, 1), (1001, 1001, EVERY - 1001)]


def test_an_owner_that_the_user_namespace_does_not_have() -> None:
    rows = table(FIRST, 1_234_567, 33)
    assert seen(rows, 1_234_567) == FIRST + 33
    assert seen(rows, 33) is None
    assert seen(rows, 34) == FIRST + 34


@given(st.sampled_from([0, FIRST]), st.one_of(ids, st.integers(65536, EVERY - 1)), ids, ids)
def test_two_swap_places_and_all_others_stay(first: int, disk: int, inside: int, other: int) -> None:
    rows = table(first, disk, inside)
    assert seen(rows, disk) == first + inside
    if not first or disk < 65536:
        assert seen(rows, inside) == first + disk
    if other not in (disk, inside):
        assert seen(rows, other) == first + other
    hosts = sorted((host, host + size) for _, host, size in rows)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(hosts))
