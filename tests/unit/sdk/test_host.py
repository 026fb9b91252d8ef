"""A session's workspace and committer in one process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from arvfuse.clock import SystemClock
from arvfuse.errors import StoreUnavailable
from arvfuse.model.blockstate import State
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.ports import BlockStore
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.host import KIND, Host, NoStore, RestingPool, temporary_host
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_catalog, make_committer, make_host

MIB = 1 << 20


def test_no_store_holds_nothing() -> None:
    store = NoStore()
    assert isinstance(store, BlockStore)
    assert (store.contains("x"), store.free_bytes(), store.barrier(), store.close()) == (False, (0, 0), None, None)
    for call in (
        lambda: store.put(b""), lambda: store.adopt(Path("x"), "", 0, b""), lambda: store.fetch_range("x", 0, 1),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable, match="no store"):
            call()


def test_threads_rest_and_come_back() -> None:
    before = threading.active_count()
    pool = RestingPool(1)
    assert pool.submit(divmod, 7, 2).result() == (3, 1)
    assert threading.active_count() == before + 1
    running = pool.submit(int, "3")
    pool.rest()
    assert (threading.active_count(), running.result()) == (before, 3)
    assert pool.submit(int, "4").result() == 4
    pool.close()
    pool.close()
    assert threading.active_count() == before


def test_blocks_stream_out_while_the_writer_goes_on(tmp_path: Path) -> None:
    store = MemoryStore()
    host = make_host(tmp_path, store)
    collection = Collection(host=host)
    with collection.open("f", "wb") as handle:
        for number in range(65):
            handle.write(bytes([number]) * MIB)
        assert [block.state for block in host.workspace.shared.blocks.all()] == [State.COMMITTED, State.WRITABLE]
        assert len(list(store.blocks())) == 1
        assert host.workspace.shared.spool.level == 2 * MIB  # the tail, and the first MiB, which was small in the log
    host.close()


def test_a_full_spool_is_emptied_by_its_writer(tmp_path: Path) -> None:
    store = MemoryStore()
    host = make_host(tmp_path, store, spool_bytes=8 * MIB)
    collection = Collection(host=host)
    for number in range(40):
        with collection.open(f"f{number}", "wb") as handle:
            handle.write(bytes([number]) * MIB)
    assert host.workspace.shared.spool.level <= 8 * MIB
    assert sum(int(locator.split("+")[1]) for locator in store.blocks()) >= 30 * MIB
    assert collection.modified()
    for number in range(40):
        assert collection.open(f"f{number}", "rb").read() == bytes([number]) * MIB
    host.close()


def test_making_room_that_fails_is_told_to_the_handles(tmp_path: Path) -> None:
    store = Faulty(MemoryStore(), "put: FAIL*; adopt: FAIL*")
    host = make_host(tmp_path, store, spool_bytes=8 * MIB)
    collection = Collection(host=host)
    handle = collection.open("f", "wb")
    handle.write(b"x" * 5 * MIB)
    handle.write(b"x" * MIB)
    with pytest.raises(StoreUnavailable):
        handle.close()
    store.rescript("")
    collection.flush()
    assert collection.open("f", "rb").read() == b"x" * 6 * MIB
    host.close()


def test_commit_tells_and_raises(tmp_path: Path) -> None:
    store = Faulty(MemoryStore())
    catalog = make_catalog()
    host = make_host(tmp_path, store, catalog)
    record = catalog.create(name="n")
    tree = host.open_tree(record, Manifest(b""))
    assert tree.kind == KIND == "session"
    tree.write(tree.create(tree.root, b"f"), 0, b"abc")
    [outcome] = host.commit([tree], save=False, merge=False)
    assert (outcome.text, catalog.get(record.uuid).version) == (b". 900150983cd24fb0d6963f7d28e17f72+3 0:3:f\n", 1)
    store.rescript("barrier: FAIL")
    with pytest.raises(StoreUnavailable):
        host.commit([tree])
    [outcome] = host.commit([tree])
    assert (outcome.version, catalog.get(record.uuid).pdh) == (2, outcome.pdh)
    assert "open 1 trees" in repr(host)
    host.abandon(tree)
    host.commit([])
    assert host.workspace.trees == []
    host.close()
    host.close()
    assert "closed" in repr(host)
    assert tmp_path.exists()


def test_a_tree_becomes_a_record(tmp_path: Path) -> None:
    catalog = make_catalog()
    host = make_host(tmp_path, MemoryStore(), catalog)
    tree = host.open_tree(None, Manifest(b"./d d41d8cd98f00b204e9800998ecf8427e+0 0:0:x\n"))
    tree.create(tree.root, b"f")
    [outcome] = host.commit([tree])
    assert outcome.version == 0
    record = catalog.create(name="n", manifest=outcome.text)
    host.bind(tree, record)
    tree.create(tree.root, b"g")
    [outcome] = host.commit([tree])
    assert (outcome.uuid, outcome.version, catalog.get(record.uuid).pdh) == (record.uuid, 2, outcome.pdh)
    host.close()


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_what_a_dead_session_leaves(tmp_path: Path, asked: bool, checkpointed: bool) -> None:
    """Unsaved changes never reach a record: those that were fsynced are kept apart, others are dropped."""
    store, catalog = MemoryStore(), make_catalog()
    host = make_host(tmp_path, store, catalog)
    record = catalog.create(name="mine", manifest=b"")
    collection = Collection(record.uuid, host=host)
    fresh = Collection(". d41d8cd98f00b204e9800998ecf8427e+0 0:0:given\n", host=host)
    for each in (collection, fresh):
        with each.open("f", "wb") as handle:
            handle.write(b"abc")
            if asked:
                handle.fsync()
        if checkpointed:
            each.flush()
    heir = make_committer(tmp_path, store, catalog)
    outcomes = heir.recover()
    assert catalog.get(record.uuid).version == 1
    assert [bool(outcome.quarantined) for outcome in outcomes] == [True] * (2 if asked else 0)
    kept = [each for each in catalog.collections() if each.uuid != record.uuid]
    texts = {catalog.manifest(each.pdh) for each in kept}
    block = b"900150983cd24fb0d6963f7d28e17f72+3"
    assert texts == ({b". %b 0:3:f\n" % block, b". %b 0:3:f 0:0:given\n" % block} if asked else set())
    heir.close()
    again = make_committer(tmp_path, store, catalog)
    assert again.recover() == []
    again.close()
    host.close()


def test_keeping_is_taken_back_by_a_save(tmp_path: Path) -> None:
    catalog = make_catalog()
    host = make_host(tmp_path, MemoryStore(), catalog)
    collection = Collection(host=host)
    collection.save_new("n")
    with collection.open("f", "wb") as handle:
        handle.write(b"abc")
        handle.fsync()
    assert host.has_kept
    collection.save()
    assert (host.has_kept, make_committer(tmp_path, host.store, catalog).recover()) == (False, [])
    host.close()


def test_a_temporary_host_goes_with_its_directory() -> None:
    host = temporary_host(MemoryStore(), None, SystemClock())
    assert isinstance(host, Host)
    assert host.mount != MountId("") != temporary_host(None, None, SystemClock()).mount
    assert host.directory.is_dir()
    host.rest()
    host.close()
    assert not host.directory.exists()
