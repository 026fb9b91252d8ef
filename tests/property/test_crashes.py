"""Whatever a program does, whatever fails and whoever dies: the trees hold what was written, and so do the records."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.crashworld import World
from tests.support.profiles import searching
from tests.support.smallsizes import PIECE, SMALL, small_sizes

# Thousands of fsyncs mean nothing here, so they are to cost nothing.
MEMORY = next((path for path in ("/dev/shm",) if os.access(path, os.W_OK)), None)
NAMES = st.sampled_from([b"a", b"b", b"c"])
INDEX = st.integers(0, 12)
OFFSETS = st.one_of(
    st.integers(0, 60), st.sampled_from([SMALL - 1, SMALL, PIECE - 10, PIECE, PIECE + 10, 2 * PIECE - 1])
)
LENGTHS = st.one_of(st.integers(1, 60), st.sampled_from([SMALL - 10, SMALL, SMALL + 1, 1600, PIECE, PIECE + 20, 3000]))
STORE = st.sampled_from(["", "", "adopt: FAIL", "adopt: ok FAIL", "adopt: FAIL*4", "adopt: AFTER", "barrier: FAIL"])
CATALOG = st.sampled_from([("", ""), ("", ""), ("save", "FAIL"), ("save", "AFTER"), ("save", "CONFLICT")])
WAYS = st.sampled_from(["told", "told", "told", "before", "lost", "refused", "crash"])


def op(name: str, *args: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *args)


FINISH = st.builds(lambda how, store, catalog: ("finish", how, store, *catalog), WAYS, STORE, CATALOG)
CHANGES = st.one_of(
    op("create", INDEX, NAMES),
    op("mkdir", INDEX, NAMES),
    op("remove", INDEX, NAMES),
    op("rename", INDEX, NAMES, INDEX, NAMES),
    op("rename", INDEX, NAMES, INDEX, NAMES),
    op("write", INDEX, OFFSETS, LENGTHS),
    op("write", INDEX, OFFSETS, LENGTHS),
    op("append", INDEX, LENGTHS),
    op("truncate", INDEX, OFFSETS),
    op("copy", INDEX, INDEX),
    op("open", INDEX, st.booleans()),
    op("shut", INDEX),
)
REFUSED = st.one_of(
    op("full", st.just("create"), INDEX, NAMES),
    op("full", st.just("mkdir"), INDEX, NAMES),
    op("full", st.just("remove"), INDEX, NAMES),
    op("full", st.just("rename"), INDEX, NAMES, INDEX, NAMES),
    op("full", st.just("truncate"), INDEX, OFFSETS),
    op("full", st.just("copy"), INDEX, INDEX),
)
EVENTS = st.one_of(
    op("feed", STORE),
    op("restart"),
    op("foreign", INDEX, NAMES, st.sampled_from(["put", "put", "delete"])),
    op("refresh", INDEX),
    op("trim"),
    op("repack", INDEX),
    op("reopen", INDEX),
    op("fsync", INDEX),
)
START = op("start", INDEX)
OPERATIONS = st.one_of(
    st.tuples(CHANGES),
    st.tuples(CHANGES, CHANGES, CHANGES),
    st.tuples(EVENTS),
    st.tuples(START, FINISH),
    st.tuples(START, CHANGES, CHANGES, FINISH),
    st.tuples(START, EVENTS, CHANGES, FINISH),
    st.tuples(op("crash", STORE)),
    st.tuples(CHANGES, REFUSED),
    st.tuples(CHANGES, op("churn", INDEX)),
    st.tuples(CHANGES, op("churn", INDEX), op("churn", INDEX)),
)


def run(operations: list[Any]) -> None:
    """Do *operations*; everything must be as it should at every step, and after the death at the end."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name, small_sizes():
        world = World(Path(name))
        for verb, *args in itertools.chain.from_iterable(operations):
            getattr(world, verb)(*args)
            world.check()
        world.crash("")
        world.check()
        world.close()


@searching(full=20_000, quick=120)
@given(st.lists(OPERATIONS, max_size=20))
def test_nothing_is_lost_and_nothing_is_wrong(operations: list[Any]) -> None:
    run(operations)


def test_a_save_whose_answer_was_lost_is_older_than_what_was_taken_in_since() -> None:
    """Else that is taken for ours at the next commit, and a file that we changed then is in conflict with itself."""
    run([
        [("start", 0), ("finish", "before", "", "save", "AFTER")],
        [("foreign", 0, b"c", "put"), ("refresh", 0)],
        [("truncate", 0, 21), ("start", 0), ("finish", "told", "", "", "")],
    ])  # fmt: skip
