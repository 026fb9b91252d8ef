"""Big directories through Operations: the backend makes the index, the engine maps it and makes a node per use."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import DirectoryNotEmpty, EntryExists, NoSuchEntry, StaleNode, StoreUnavailable
from arvfuse.model import dirindex, manifests, streams
from arvfuse.model.collections import Save
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.trimming import settle_on, trim
from arvfuse.supervisor.directories import DirectoryReader, open_answer
from tests.support.engines import Mounted, now

COUNT = 5000
BLOCK = b"0123456789"


def big_text(count: int, path: str = "./big") -> bytes:
    locator = "781e5e245d69b566979b86e28d23f2c7+10"
    return (f"{path} {locator}" + "".join(f" {at % 7}:3:file-{at:07d}.txt" for at in range(count)) + "\n").encode()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    made.engine.store.put(BLOCK)
    yield made
    made.close()


def opened(mounted: Mounted, text: bytes) -> LiveTree:
    record = mounted.engine.new_collection("c", text)
    mounted.walk(b"home", b"c")
    tree = mounted.engine.open_collection(record.uuid).result(0)
    assert isinstance(tree, LiveTree)
    return tree


def big(tree: LiveTree) -> DirNode:
    node = tree.lookup(tree.root, b"big")
    assert isinstance(node, DirNode)
    return node


def commit(mounted: Mounted, tree: LiveTree) -> bytes:
    mounted.engine.commit([tree]).result(0)
    assert tree.uuid is not None
    return mounted.engine.catalog.manifest(mounted.engine.catalog.get(tree.uuid).pdh)


def test_the_first_use_waits_for_the_index_and_holds_nobody_up(mounted: Mounted) -> None:
    opened(mounted, big_text(COUNT) + b"./small 781e5e245d69b566979b86e28d23f2c7+10 0:3:one\n")
    directory, small = (mounted.walk(b"home", b"c", name) for name in (b"big", b"small"))
    mounted.engine.link.hold = True
    asked: list[Any] = [
        mounted.ops.opendir(directory),
        mounted.ops.lookup(directory, b"file-0000042.txt"),
        mounted.ops.lookup(directory, b"missing"),
        mounted.ops.create(directory, b"new", 0o644, 2),
        mounted.ops.mkdir(directory, b"new-dir", 0o755),
        mounted.ops.unlink(directory, b"file-0000007.txt"),
        mounted.ops.rename(directory, b"file-0000008.txt", directory, b"renamed"),
    ]
    assert all(isinstance(each, Future) and not each.done() for each in asked)
    assert [op for op, _, _ in mounted.engine.link.waiting] == ["index"]
    assert mounted.names(small) == [b"one"]
    mounted.engine.link.hold = False
    mounted.engine.link.answer_next()
    handle, found, missing, created, made, unlinked, renamed = asked
    assert found.result(0).attr.size == 3
    assert isinstance(missing.exception(0), NoSuchEntry)
    assert (unlinked.result(0), renamed.result(0)) == (None, None)
    names = mounted.names(directory)
    assert names == [
        *(b"file-%07d.txt" % at for at in range(COUNT) if at not in (7, 8)), b"new", b"new-dir", b"renamed",
    ]  # fmt: skip
    assert len(list(now(mounted.ops.readdir(handle.result(0), 0)))) == 2 + len(names), "as it is at the first read"
    assert made.result(0).attr.is_dir
    mounted.ops.release(created.result(0).opened.handle)
    mounted.ops.releasedir(handle.result(0))


def test_the_engine_neither_parses_nor_makes_a_node_for_each(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 60_000
    tree = opened(mounted, big_text(count))
    directory = mounted.walk(b"home", b"c", b"big")
    mounted.engine.link.hold = True
    waiting = mounted.ops.opendir(directory)
    mounted.engine.link.hold = False
    mounted.engine.link.answer_next()  # what the backend does
    handle = now(waiting)

    def parses(*_: object) -> None:
        raise AssertionError("a line is parsed in the engine")

    for module, name in ((streams, "parse_line"), (streams, "parse_head"), (dirindex, "parse_head")):
        monkeypatch.setattr(module, name, parses)
    numbers = {listed.name: listed.no for listed in now(mounted.ops.readdir(handle, 0))}
    assert len(numbers) == count + 2
    assert len(set(numbers.values())) == count + 2
    mounted.ops.releasedir(handle)
    for at in range(0, count, count // 100):
        name = b"file-%07d.txt" % at
        entry = now(mounted.ops.lookup(directory, name))
        assert (entry.attr.no, entry.attr.size) == (numbers[name], 3)
        assert mounted.read_file(entry.attr.no) == BLOCK[at % 7 : at % 7 + 3]
    assert mounted.ops.unlink(directory, b"file-0000001.txt") is None
    mounted.write_file(directory, b"file-0000003.txt", b"changed")
    mounted.write_file(directory, b"new", b"new")
    assert len(mounted.names(directory)) == count
    gc.collect()
    assert sum(isinstance(each, FileNode) for each in gc.get_objects()) < 1000
    assert sum(1 for _ in tree.root.loaded()) < 200
    monkeypatch.undo()
    text = commit(mounted, tree)
    assert text.count(b":file-") == count - 1
    assert text.rstrip().endswith(b":new")


def test_nodes_that_the_kernel_forgot_go(mounted: Mounted) -> None:
    tree = opened(mounted, big_text(COUNT))
    directory = mounted.walk(b"home", b"c", b"big")
    number = mounted.walk(b"home", b"c", b"big", b"file-0000005.txt")
    for at in range(1000):
        looked = now(mounted.ops.lookup(directory, b"file-%07d.txt" % at)).attr.no
        if at != 6:
            mounted.ops.forget([(looked, 1)])
    kept = mounted.walk(b"home", b"c", b"big", b"file-0000006.txt")
    changed = mounted.write_file(directory, b"file-0000009.txt", b"changed")
    mounted.ops.forget([(changed, 1)])
    assert trim(tree, mounted.ops.knows) == 1000 - 3
    assert set(big(tree).entries.nodes) == {b"file-000000%d.txt" % at for at in (5, 6, 9)}  # type: ignore[union-attr]
    assert mounted.walk(b"home", b"c", b"big", b"file-0000006.txt") == kept
    mounted.ops.forget([(number, 2)])
    trim(tree, mounted.ops.knows)
    assert mounted.walk(b"home", b"c", b"big", b"file-0000005.txt") == number
    assert mounted.read_file(mounted.walk(b"home", b"c", b"big", b"file-0000009.txt")) == b"changed"
    big(tree).entries.check_invariants()  # type: ignore[union-attr]


def test_what_was_made_here_goes_too_when_a_commit_holds_it(mounted: Mounted) -> None:
    tree = opened(mounted, big_text(COUNT))
    directory = mounted.walk(b"home", b"c", b"big")
    mounted.names(directory)
    for at in range(1000):  # without permission bits, which live in the node alone
        file = tree.create(big(tree), b"new-%05d" % at)
        tree.write(file, 0, b"%05d" % at)
    kept = mounted.walk(b"home", b"c", b"big", b"new-00000")
    mounted.ops.unlink(directory, b"file-0000000.txt")
    commit(mounted, tree)
    assert tree.uuid is not None
    reply = mounted.engine.link.request("open", id=tree.uuid).result(0)
    assert settle_on(tree, open_answer(reply))
    assert trim(tree, mounted.ops.knows) == 0
    mounted.engine.link.down = True
    assert trim(tree, mounted.ops.knows, mounted.engine.reader.index_here) == 0
    mounted.engine.link.down = False
    assert trim(tree, mounted.ops.knows, mounted.engine.reader.index_here) == 999
    entries = big(tree).entries
    assert entries is not None
    entries.check_invariants()
    assert list(entries.nodes) == [b"new-00000"]
    index = entries.index
    assert trim(tree, mounted.ops.knows, mounted.engine.reader.index_here) == 0
    assert entries.index is index  # made once
    assert tree.loaded < 1000
    assert len(mounted.names(directory)) == COUNT + 999
    assert mounted.walk(b"home", b"c", b"big", b"new-00000") == kept
    assert mounted.read_file(mounted.walk(b"home", b"c", b"big", b"new-00777")) == b"00777"
    with pytest.raises(NoSuchEntry):
        mounted.walk(b"home", b"c", b"big", b"file-0000000.txt")
    mounted.write_file(directory, b"new-00777", b"again")
    assert b":new-00777" in commit(mounted, tree)
    assert mounted.read_file(mounted.walk(b"home", b"c", b"big", b"new-00777")) == b"again"


def test_a_big_directory_is_not_empty_and_needs_no_look(mounted: Mounted) -> None:
    opened(mounted, big_text(COUNT))
    top = mounted.walk(b"home", b"c")
    mounted.ops.mkdir(top, b"other", 0o755)
    mounted.engine.link.ops()
    with pytest.raises(DirectoryNotEmpty):
        mounted.ops.rmdir(top, b"big")
    with pytest.raises(DirectoryNotEmpty):
        mounted.ops.rename(top, b"other", top, b"big")
    mounted.ops.rename(top, b"big", top, b"moved")
    assert "index" not in mounted.engine.link.ops()
    assert len(mounted.names(mounted.walk(b"home", b"c", b"moved"))) == COUNT
    with pytest.raises(EntryExists):
        now(mounted.ops.mkdir(mounted.walk(b"home", b"c", b"moved"), b"file-0000001.txt", 0o755))


def test_many_subdirectories_are_indexed_too(mounted: Mounted) -> None:
    locator = b"781e5e245d69b566979b86e28d23f2c7+10"
    opened(mounted, b"".join(b"./big/d%05d %b 0:3:f\n" % (at, locator) for at in range(2000)))
    mounted.engine.link.ops()
    names = mounted.names(mounted.walk(b"home", b"c", b"big"))
    assert names == [b"d%05d" % at for at in range(2000)]
    assert "index" in mounted.engine.link.ops()
    assert mounted.read_file(mounted.walk(b"home", b"c", b"big", b"d01234", b"f")) == b"012"


def test_an_outage_is_no_missing_name_and_is_asked_again(mounted: Mounted) -> None:
    opened(mounted, big_text(COUNT))
    directory = mounted.walk(b"home", b"c", b"big")
    mounted.engine.link.down = True
    with pytest.raises(StoreUnavailable):
        now(mounted.ops.lookup(directory, b"file-0000001.txt"))
    mounted.engine.link.down = False
    assert now(mounted.ops.lookup(directory, b"file-0000001.txt")).attr.size == 3


def test_a_long_text_is_not_scanned_here(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    record = mounted.engine.new_collection("long", big_text(20_000))
    reply = mounted.engine.link.request("open", id=record.uuid).result(0)
    monkeypatch.setattr(manifests, "scan", None)
    opened = open_answer(reply)
    assert opened.has_directory((b"big",))
    assert opened.is_big((b"big",))
    monkeypatch.undo()
    small = mounted.engine.link.request("open", id=mounted.engine.new_collection("small").uuid).result(0)
    assert open_answer(small).text == b""


class Answers:
    """A link that answers with these files, one after the other."""

    def __init__(self, *files: Path) -> None:
        self.files = list(files)

    def request(self, op: str, **args: Any) -> Future[dict[str, Any]]:
        answer: Future[dict[str, Any]] = Future()
        answer.set_result({"index": str(self.files.pop(0))})
        return answer


def test_an_index_that_is_cut_off_is_asked_for_once_more(
    mounted: Mounted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = opened(mounted, big_text(COUNT))
    answer = mounted.engine.link.request("index", text=tree.root.source[0].origin, path=["big"])  # type: ignore[index]
    good = Path(answer.result(0)["index"])
    bad = tmp_path / "bad"
    bad.write_bytes(good.read_bytes()[:-5])
    with caplog.at_level(logging.WARNING):
        twice = DirectoryReader(Answers(bad, tmp_path / "missing"), 10.0).read(big(tree))
        assert isinstance(twice.exception(0), StoreUnavailable)
        assert DirectoryReader(Answers(bad, good), 10.0).read(big(tree)).result(0) is None
    assert big(tree).entries is not None
    assert len(tree.names(big(tree))) == COUNT
    assert DirectoryReader(Answers(), 10.0).read(tree.mkdir(tree.root, b"new")).result(0) is None


def test_who_can_wait_gets_the_names_whatever_the_backend_does(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    tree = opened(mounted, big_text(COUNT))
    mounted.engine.link.down = True
    with caplog.at_level(logging.WARNING):
        mounted.engine.reader.read_here(big(tree))
    assert len(tree.names(big(tree))) == COUNT
    assert "parsed here" in caplog.text


def test_a_directory_that_was_trimmed_meanwhile_is_looked_up_again(mounted: Mounted) -> None:
    text = big_text(COUNT, "./above/big")
    tree = opened(mounted, text)
    above = tree.lookup(tree.root, b"above")
    assert isinstance(above, DirNode)
    directory = tree.lookup(above, b"big")
    assert isinstance(directory, DirNode)
    mounted.engine.link.hold = True
    waiting = mounted.engine.read_directory(directory)
    trim(tree, lambda number: False)
    mounted.engine.link.hold = False
    mounted.engine.link.answer_next()
    assert isinstance(waiting.exception(0), StaleNode)
    assert len(mounted.names(mounted.walk(b"home", b"c", b"above", b"big"))) == COUNT


def test_a_merge_reads_what_it_needs(mounted: Mounted) -> None:
    tree = opened(mounted, big_text(COUNT))
    assert tree.uuid is not None
    tree.mkdir(tree.root, b"ours")
    theirs = big_text(COUNT).rstrip() + b" 0:3:theirs\n"
    record = mounted.engine.catalog.get(tree.uuid)
    mounted.engine.catalog.save(
        Save(uuid=record.uuid, expect=record.version, pdh=pdh(theirs), manifest=theirs, keep_previous=False)
    )
    assert pdh(theirs) == mounted.engine.catalog.get(tree.uuid).pdh
    commit(mounted, tree)
    assert tree.names(big(tree)) is not None
    assert tree.lookup(big(tree), b"theirs").no > 0
    assert len(big(tree).entries) == COUNT + 1  # type: ignore[arg-type]


def test_an_index_that_is_gone_with_its_directory(mounted: Mounted, tmp_path: Path) -> None:
    opened(mounted, big_text(COUNT))
    directory = mounted.walk(b"home", b"c", b"big")
    names = mounted.names(directory)
    shutil.rmtree(tmp_path / "manifests")
    assert mounted.names(directory) == names  # it is mapped
