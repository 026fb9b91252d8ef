"""A file of a collection against a bytearray: any sequence of writes, cuts, reads, commits and reopenings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import NoSpace
from arvfuse.sdk import content
from arvfuse.sdk.blocks import BufferBlock
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.copying import copy_range
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_catalog, make_host
from tests.support.profiles import searching

OFFSETS = st.one_of(st.integers(0, 60), st.sampled_from([(1 << 20) - 1, 1 << 20, (1 << 20) + 7]))
DATA = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"x" * 5000, b"yz" * (1 << 19), b"\0" * 70_000]), st.just(b"")
)
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), OFFSETS, DATA),
    st.tuples(st.just("write"), st.integers(0, 12), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("taken"), OFFSETS, DATA),
    st.tuples(st.just("append"), DATA),
    st.tuples(st.just("truncate"), OFFSETS),
    st.tuples(st.just("read"), OFFSETS, st.integers(0, 100)),
    st.tuples(st.just("copy")),
    st.tuples(st.just("share"), OFFSETS, OFFSETS, st.one_of(OFFSETS, st.integers(1, 9))),
    st.tuples(st.just("commit")),
    st.tuples(st.just("reopen")),
)


def write(model: bytearray, offset: int, data: bytes) -> None:
    if data:
        model.extend(bytes(max(offset - len(model), 0)))
        model[offset : offset + len(data)] = data


@contextmanager
def no_room() -> Iterator[None]:
    """The spool's disk is full, that of the log is not."""

    def refuse(block: BufferBlock, data: memoryview, offset: int) -> None:
        raise NoSpace(str(block.path.parent), "no room in the spool")

    with patch.object(BufferBlock, "pwrite", refuse):
        yield


@searching(full=5000)
@given(st.lists(OPERATIONS, max_size=25))
def test_file_is_a_bytearray(operations: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        store, catalog = MemoryStore(), make_catalog()
        host = make_host(Path(name), store, catalog)
        collection = Collection(host=host)
        handle = collection.open("file", "w+b")
        collection.save_new("mine")
        model = bytearray()
        copies: dict[str, bytes] = {}
        for kind, *args in operations:
            if kind == "write":
                handle.seek(args[0])
                assert handle.write(args[1]) == len(args[1])
                write(model, *args)
            elif kind == "taken":  # a page that cannot be refused, while the spool has no room
                node = collection["file"].node
                with no_room():
                    assert node.tree.accept(node, *args, taken=True) == len(args[1])
                write(model, *args)
            elif kind == "append":
                with collection.open("file", "ab") as end:
                    end.write(args[0])
                model += args[0]
            elif kind == "truncate":
                handle.truncate(args[0])
                model = model[: args[0]].ljust(args[0], b"\0")
            elif kind == "read":
                assert handle.readfrom(*args) == model[args[0] : args[0] + args[1]]
            elif kind == "copy":
                collection.copy("file", f"copy{len(copies)}")
                copies[f"copy{len(copies)}"] = bytes(model)
            elif kind == "share":
                start, at, length = args
                node = collection["file"].node
                shared = bytes(model[start : start + length])
                assert copy_range(node, start, node, at, length) == len(shared)
                write(model, at, shared)
            elif kind == "commit":
                collection.save()
            elif kind == "reopen":
                collection.save()
                handle.close()
                collection = Collection(collection.manifest_locator(), host=host)
                handle = collection.open("file", "r+b")
            assert handle.size() == len(model)
        handle.seek(0)
        assert handle.read() == model
        handle.close()
        collection.save()
        fresh = Collection(collection.manifest_locator(), host=host)
        assert {key: fresh.open(key, "rb").read() for key in fresh} == {"file": bytes(model), **copies}
        host.close()


def test_both_ways_of_writing_are_tried() -> None:
    assert content.SMALL_BYTES == 1 << 20  # the offsets above lie around it
