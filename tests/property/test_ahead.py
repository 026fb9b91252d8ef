"""A handle that fetches ahead against a bytearray: any reads and moves, while others write, cut, copy and commit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import StoreUnavailable
from arvfuse.sdk import ahead
from arvfuse.sdk.collection import Collection
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host
from tests.support.profiles import searching
from tests.support.stores import noise

CONTENT = noise(400).replace(b"\x55", b"\n")
STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 40)),
    st.tuples(st.just("read"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("line")),
    st.tuples(st.just("elsewhere"), st.integers(0, 420), st.integers(0, 30)),
    st.tuples(st.just("seek"), st.integers(0, 420)),
    st.tuples(st.just("write"), st.integers(0, 420), st.binary(min_size=1, max_size=50)),
    st.tuples(st.just("truncate"), st.integers(0, 420)),
    st.tuples(st.just("commit")),
    st.tuples(st.just("outage"), st.booleans()),
)


class FarStore(MemoryStore):
    """What comes from it comes in pieces of 8 bytes."""

    ahead_bytes = 8  # type: ignore[misc] # of a store that is at hand it is 0


@searching(full=3000)
@given(st.lists(STEPS, max_size=40), st.integers(1, 3))
def test_who_reads_ahead_reads_what_the_file_says(steps: list[tuple[Any, ...]], threads: int) -> None:
    small = patch.multiple(ahead, AFTER_BYTES=4, _KEEP_BYTES=16)
    with tempfile.TemporaryDirectory() as name, small:
        store = Faulty(FarStore())
        host = make_host(Path(name), store, num_prefetch_threads=threads)
        collection = Collection(host=host)
        writer = collection.open("file", "w+b")
        writer.write(CONTENT)
        collection.manifest_text()
        reader = collection.open("file", "rb")
        model, position, down = bytearray(CONTENT), 0, False
        for kind, *args in steps:
            if kind in {"read", "line", "elsewhere"}:
                if kind == "elsewhere":
                    start, size = args
                    wanted = bytes(model[start : start + size])
                elif kind == "read":
                    start, size = position, args[0]
                    wanted = bytes(model[start:] if size < 0 else model[start : start + size])
                else:
                    start = position
                    wanted = bytes(model[start:]).partition(b"\n")[0]
                    wanted = bytes(model[start : start + len(wanted) + 1])
                try:
                    got = (
                        reader.readfrom(start, size) if kind == "elsewhere"
                        else reader.read(size) if kind == "read"
                        else reader.readline()
                    )  # fmt: skip
                except StoreUnavailable:
                    assert down
                else:
                    assert got == wanted
                    position += len(got) if kind != "elsewhere" else 0
                assert reader.tell() == position
            elif kind == "seek":
                position = reader.seek(args[0])
            elif kind == "write":
                offset, data = args
                writer.seek(offset)
                writer.write(data)
                model.extend(bytes(max(offset - len(model), 0)))
                model[offset : offset + len(data)] = data
            elif kind == "truncate":
                writer.truncate(args[0])
                model = model[: args[0]] + bytes(max(args[0] - len(model), 0))
            elif kind == "commit":
                if not down:
                    collection.manifest_text()
            else:
                down = args[0]
                store.rescript("fetch_range: FAIL*" if down else "")
        reader.close()
        writer.close()
        host.close()
