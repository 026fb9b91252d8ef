"""Copies within a workspace, between two on one store, and between stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.sdk.collection import Collection
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.copying import committed_parts, copy_content, copy_range, make_copy
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_catalog, make_host

BIG = b"0123456789" * (SMALL_BYTES // 10 + 7)


@pytest.mark.parametrize("where", ["one workspace", "one store", "two stores"])
def test_a_copy_is_independent(tmp_path: Path, where: str) -> None:
    store = MemoryStore()
    host = make_host(tmp_path / "a", store)
    other = host if where == "one workspace" else make_host(
        tmp_path / "b", store if where == "one store" else MemoryStore()
    )  # fmt: skip
    source, target = Collection(host=host), Collection(host=other)
    for name, data in (("d/small", b"abc"), ("d/big", BIG), ("d/e/hole", b"")):
        with source.open(name, "wb") as handle:
            handle.write(data)
            handle.seek(10_000_000)
            handle.truncate()
    made = make_copy(target, source["d"], target.node, b"copy", replace=False)
    assert target["copy"].node is made
    with source.open("d/small", "r+b") as handle:
        handle.write(b"XY")
    with target.open("copy/big", "r+b") as handle:
        handle.write(b"XY")
    assert source.open("d/small", "rb").read(4) == b"XYc\0"
    assert target.open("copy/small", "rb").read(4) == b"abc\0"
    assert source.open("d/big", "rb").read(len(BIG)) == BIG
    assert target.open("copy/big", "rb").read(len(BIG)) == b"XY" + BIG[2:]
    assert target["copy"]["e"]["hole"].size() == 10_000_000
    text = target.manifest_text()
    assert Collection(text, host=other) == target
    assert Collection(source.manifest_text(), host=host) == source


def test_a_range_is_shared_not_copied(tmp_path: Path) -> None:
    host = make_host(tmp_path, MemoryStore(), make_catalog())
    collection = Collection(host=host)
    with collection.open("source", "wb") as handle:
        handle.write(BIG)
    with collection.open("target", "wb") as handle:
        handle.write(b"x" * 100)
    source, target = collection["source"].node, collection["target"].node
    before = host.workspace.shared.spool.level
    assert copy_range(source, 5, target, 10, 50_000) == 50_000
    assert copy_range(source, len(BIG) - 3, target, 0, 50) == 3, "as far as there is something"
    assert copy_range(source, len(BIG), target, 0, 50) == 0
    assert host.workspace.shared.spool.level == before
    wanted = BIG[-3:] + b"x" * 7 + BIG[5:50_005]
    assert collection.open("target", "rb").read(100_000) == wanted
    with collection.open("source", "r+b") as handle:
        handle.write(b"Y" * 1000)
    assert collection.open("target", "rb").read(100_000) == wanted
    host.close()


def test_copies_survive_the_commits_of_their_source(tmp_path: Path) -> None:
    """The record of a copy names log and spool, so they stay until a commit covers the copy, whatever else commits."""
    catalog = make_catalog()
    host = make_host(tmp_path, MemoryStore(), catalog)
    source, target = Collection(host=host), Collection(host=host)
    source.save_new("source")
    target.save_new("target")
    for name, data in (("small", b"abc"), ("big", BIG)):
        with source.open(name, "wb") as handle:
            handle.write(data)
        target.copy(name, name, source_collection=source)
    source.save()
    source.remove("small")
    source.remove("big")
    source.save()
    spooled = {block.no for block in host.workspace.shared.blocks.all()}
    assert spooled
    target.save()
    assert Collection(target.manifest_locator(), host=host).open("big", "rb").read() == BIG
    assert Collection(target.manifest_locator(), host=host).open("small", "rb").read() == b"abc"
    assert not host.workspace.shared.blocks.all()


def test_replacing_what_is_there(tmp_path: Path) -> None:
    host = make_host(tmp_path)
    c = Collection(host=host)
    for name in ("a", "b"):
        with c.open(name, "w") as handle:
            handle.write(name * 3)
    make_copy(c, c["a"], c.node, b"b", replace=True)
    assert c.open("b").read() == "aaa"
    node = c.find_or_create("c", "file").node
    assert isinstance(node, FileNode)
    copy_content(c, c["b"], node)
    assert c.open("c").read() == "aaa"
    assert committed_parts(node) == []
    c.flush()
    assert [length for length, _, _ in committed_parts(node)] == [3]
