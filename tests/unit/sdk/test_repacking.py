"""Which files are fragmented, and what repacking makes of them: the same bytes, and nothing that asks for more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import BlockMissing
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.ranges import HOLE, LOG, Part
from arvfuse.sdk.repacking import MEAN_BYTES, is_fragmented, repack
from arvfuse.stores.memory import MemoryStore
from tests.support.profiles import searching
from tests.support.stores import noise

A, B = "a" * 32, "b" * 32
M = MEAN_BYTES
PARTS = st.tuples(st.integers(1, 3000), st.integers(-1, 3), st.integers(0, 50))


def test_what_is_fragmented() -> None:
    assert not is_fragmented([])
    assert not is_fragmented([(100, f"{A}+100", 0)])
    assert is_fragmented([(100, f"{A}+100", 0), (100, f"{B}+100", 0)])
    assert is_fragmented([(M - 1, f"{A}+{M}", 0), (M, f"{B}+{M}", 0)])
    assert not is_fragmented([(M, f"{A}+{M}", 0), (M, f"{B}+{M}", 0)])
    assert not is_fragmented([(10, f"{A}+20", 0), (10, HOLE, 0), (10, f"{A}+20", 10)])  # no way to have fewer
    assert is_fragmented([(10, f"{A}+20", 0), (10, HOLE, 0), (10, f"{A}+20", 0), (5, f"{B}+5", 0)])
    assert not is_fragmented([(100, f"{A}+100", 0), (100, LOG, 0)])
    assert not is_fragmented([(100, f"{A}+100", 0), (100, 7, 0)])  # not stored yet
    assert not is_fragmented([(BLOCK_BYTES, f"{A}+{BLOCK_BYTES}", 0), (100, f"{B}+100", 0)])  # cut as it has to be


def test_blocks_that_hold_more_than_twice_the_bytes_of_a_file() -> None:
    assert not is_fragmented([(2 * M, f"{A}+{4 * M}", 0)])
    assert is_fragmented([(2 * M, f"{A}+{4 * M + 1}", 0)])
    assert is_fragmented([(2 * M, f"{A}+{3 * M}+Asignature@time", 0), (2 * M, HOLE, 0), (2 * M, f"{B}+{6 * M}", 0)])
    assert not is_fragmented([(M - 1, f"{A}+{BLOCK_BYTES}", 0)])  # shares its block with others


def content(store: MemoryStore, parts: list[Part]) -> bytes:
    return b"".join(
        bytes(store.fetch_range(ref, at, length)) if isinstance(ref, str) else bytes(length)
        for length, ref, at in parts
    )


def test_small_files_share_a_block_and_large_ones_have_their_own(tmp_path: Path) -> None:
    store = MemoryStore()
    one, two, large = store.put(noise(100)), store.put(noise(200)), store.put(noise(6 * M))
    files: list[list[Part]] = [
        [(50, one, 50), (60, two, 10)],
        [(2 * M, large, M), (M, HOLE, 0)],
        [(30, two, 0), (40, one, 0), (10, HOLE, 0), (5, one, 0)],
        [(100, one, 0)],
    ]
    made = repack(store, tmp_path / "temporary", files)
    assert [content(store, parts) for parts in made] == [content(store, parts) for parts in files]
    assert not any(map(is_fragmented, made))
    (first, _), (second, _), (third, hole, fourth), fifth = [[ref for _, ref, _ in parts] for parts in (
        [*made[0], (0, 0, 0)], made[1], made[2], made[3],
    )]  # fmt: skip
    assert (first, hole, fourth) == (third, HOLE, one)
    assert (str(second).split("+")[1], fifth) == (str(2 * M), [one])
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockMissing):
        repack(MemoryStore(), tmp_path / "temporary", [[(10, f"{A}+10", 0), (10, f"{B}+10", 0)]])
    assert list(tmp_path.iterdir()) == []


@searching(full=2000, quick=40)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 3000), st.integers(-1, 3), st.integers(0, 50)), max_size=6), max_size=4)
)
def test_any_file_keeps_its_bytes_and_asks_for_no_more(tmp_path_factory: pytest.TempPathFactory, files: object) -> None:
    store = MemoryStore()
    blocks = [store.put(noise(4000 + number)) for number in range(4)]
    before: list[list[Part]] = [
        [(length, blocks[block] if block >= 0 else HOLE, at if block >= 0 else 0) for length, block, at in parts]
        for parts in files  # type: ignore[attr-defined] # what hypothesis makes
    ]
    made = repack(store, tmp_path_factory.getbasetemp() / "temporary", before)
    assert [content(store, parts) for parts in made] == [content(store, parts) for parts in before]
    assert not any(map(is_fragmented, made))
