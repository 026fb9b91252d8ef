"""Old indexes go, the longest unused first; manifests, what is new and what is in use stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.backend.sweeping import KEEP_BYTES, SWEPT, UNUSED_NS, mark_used, sweep
from arvfuse.sdk.mapped import index_name, lines_key

NOW_NS = 1_700_000_000_000_000_000
DAY_NS = UNUSED_NS
PDH = "781e5e245d69b566979b86e28d23f2c7+51"


class Store:
    """The manifests of a store; files are as old as is said."""

    def __init__(self, top: Path) -> None:
        self.top = top / "manifests"
        (self.top / "tmp").mkdir(parents=True)
        (self.top / PDH[:3]).mkdir()

    def make(self, name: str, days: float, size: int = 100) -> Path:
        file = self.top / PDH[:3] / name
        file.write_bytes(bytes(size))
        used = NOW_NS - round(days * DAY_NS)
        os.utime(file, ns=(used, used))
        return file

    def sweep(self, keep_bytes: int = 0, *, now_ns: int = NOW_NS, over: bool = False) -> int:
        return sweep(self.top, now_ns=now_ns, keep_bytes=keep_bytes, is_over=lambda: over)

    def left(self) -> set[str]:
        return {file.name for file in (self.top / PDH[:3]).iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_only_indexes_go_and_only_such_that_were_not_used_for_a_day(store: Store) -> None:
    text = Path(PDH)
    stay = [PDH, f"{PDH}.normal", f"{PDH}.other", "what.lines"]
    go = [f"{PDH}.lines", f"{PDH}.normal.lines", index_name(text, (b"d",)), index_name(Path(f"{PDH}.normal"), ())]
    for name in (*stay, *go):
        store.make(name, 9)
    young = store.make(index_name(text, (b"e",)), 0.9)
    assert store.sweep() == len(go)
    assert store.left() == {*stay, young.name}
    assert lines_key(text) != lines_key(Path(f"{PDH}.normal"))


def test_the_longest_unused_go_until_the_rest_may_stay(store: Store) -> None:
    files = [store.make(index_name(Path(PDH), (b"%d" % days,)), days, 1000) for days in (2, 3, 4, 5)]
    killed = store.make(f"{PDH}.lines.0123abcd.new", 2)
    being_written = store.make(f"{PDH}.lines.0123abce.new", 0.5)
    assert store.sweep(2500) == 3
    assert store.left() == {files[0].name, files[1].name, being_written.name}
    assert not killed.exists()
    assert KEEP_BYTES == 1 << 30


def test_who_uses_one_keeps_it(store: Store) -> None:
    used, other = (store.make(index_name(Path(PDH), (name,)), 5) for name in (b"a", b"b"))
    mark_used(used)
    mark_used(store.top / "gone")
    now_ns = used.stat().st_mtime_ns
    assert store.sweep(now_ns=now_ns) == 1
    assert store.left() == {used.name}
    assert not other.exists()


def test_a_store_is_swept_once_a_day_by_whoever_comes_first(store: Store) -> None:
    store.make(f"{PDH}.lines", 5)
    assert store.sweep() == 1
    store.make(f"{PDH}.lines", 5)
    assert store.sweep(now_ns=NOW_NS + DAY_NS // 2) == 0
    assert store.sweep(now_ns=NOW_NS + DAY_NS + 1) == 1
    assert (store.top / SWEPT).is_file()


def test_who_ends_meanwhile_removes_nothing_more(store: Store) -> None:
    file = store.make(f"{PDH}.lines", 5)
    assert store.sweep(over=True) == 0
    assert file.exists()
    assert store.sweep() == 1  # who comes next does it


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    assert sweep(tmp_path / "nothing", now_ns=NOW_NS, is_over=lambda: False) == 0
    assert list(tmp_path.iterdir()) == []
