"""Deaths, failures and other threads at the worst moment: no byte is lost, no wrong one shown, no endless wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import Damaged, LogFailed
from arvfuse.model.collections import PDH, MountId, Save
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import EARLY_SEAL_BYTES, LiveTree
from arvfuse.sdk.log import log_path
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.hosts import InlinePool, make_committer, make_host
from tests.support.sessions import Session, contents, locators, put_file, recovered, saved_contents
from tests.support.smalldisk import files_end_at
from tests.support.stores import noise

LARGE = noise(SMALL_BYTES + 5000)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=SystemClock())


def unlink(tree: LiveTree, file: FileNode) -> None:
    tree.unlink(tree.root, file.name)


def remove_tree(tree: LiveTree, file: FileNode) -> None:
    tree.remove_tree(tree.root, file.name)


def replace(tree: LiveTree, file: FileNode) -> None:
    tree.rename(tree.root, b"other", tree.root, file.name)


def empty(tree: LiveTree, file: FileNode) -> None:
    tree.truncate(file, 0)


def set_content(tree: LiveTree, file: FileNode) -> None:
    tree.set_content(file, ())


@pytest.mark.parametrize("drop", [unlink, remove_tree, replace, empty, set_content])
def test_bytes_go_after_the_record_that_lets_them_go(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog, drop: object
) -> None:
    """A death between the two leaves a log that needs the spool file: without it nothing could be committed."""
    assert callable(drop)
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"other", b"o")
        file = put_file(tree, b"file", LARGE)
        with files_end_at(log_path(tmp_path, 1).stat().st_size + 10), pytest.raises(LogFailed):
            drop(tree, file)
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"other",): b"o", (b"file",): LARGE}


def overwrite(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 50, b"y" * 100)


def append(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, file.size, b"y" * 100)


@pytest.mark.parametrize("change", [unlink, remove_tree, replace, empty, set_content, overwrite, append])
@pytest.mark.parametrize("data", [LARGE, b"small, in the log" * 9], ids=["block", "inline"])
def test_a_change_that_is_taken_back_finds_the_bytes_that_a_commit_stored_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[LiveTree, FileNode], None], data: bytes
) -> None:
    with Session(tmp_path, store=MemoryStore(), catalog=MemoryCatalog(clock=SystemClock())) as session:
        workspace = session.workspace
        tree = session.open(session.catalog.create(name="c"))
        put_file(tree, b"other", b"o")
        file = put_file(tree, b"file", data)
        _, seq = workspace.commit_point([tree])
        outcomes = session.committer.commit([tree.no], seq)
        for block in workspace.shared.blocks.all():
            workspace.stored(block.no)

        flush, log = workspace.log.flush, log_path(tmp_path, 1)

        def full(seq: int) -> None:
            monkeypatch.setattr(workspace.log, "flush", flush)
            with files_end_at(log.stat().st_size + 10):
                taking = threading.Thread(target=workspace.take, args=(outcomes,))
                taking.start()
                taking.join()
                flush(seq)

        monkeypatch.setattr(workspace.log, "flush", full)
        with pytest.raises(LogFailed):
            change(tree, file)
        assert contents(tree) == {(b"other",): b"o", (b"file",): data}


def test_a_move_during_a_commit_keeps_both_trees_together(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """The source alone, saved without the entry, would leave a log from which the entry cannot be taken any more."""
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        source, target = session.open(one), session.open(two)
        put_file(source, b"a", b"first")
        source.rename(source.root, b"a", target.root, b"a")
        put_file(source, b"b", b"second")
        chosen, seq = session.workspace.commit_point([source, target])
        source.rename(source.root, b"b", target.root, b"b")  # while the commit is on its way
        session.workspace.take(session.committer.commit([tree.no for tree in chosen], seq))
        assert {tree.no for tree in session.workspace.commit_point([source])[0]} == {source.no, target.no}
        session.committed(source)
        assert saved_contents(catalog, store, two.uuid) == {(b"a",): b"first", (b"b",): b"second"}
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, two.uuid) == {(b"a",): b"first", (b"b",): b"second"}


def test_a_move_at_a_commit_point_is_in_both_trees_or_in_none(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """The commit point has chosen its trees when the move comes, and waits for a write that is on its way."""
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        source, target = session.open(one), session.open(two)
        put_file(source, b"a", b"first")
        closed = source.close_gate

        def move_meanwhile() -> None:
            source.close_gate = closed  # type: ignore[method-assign] # once
            source.rename(source.root, b"a", target.root, b"a")
            closed()

        source.close_gate = move_meanwhile  # type: ignore[method-assign] # the moment between choice and gate
        chosen, _ = session.workspace.commit_point([source])
        assert {tree.no for tree in chosen} == {source.no, target.no}


def test_each_log_file_says_on_what_its_records_build(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """Log files before it are dropped when they are covered; what follows has to be understood without them."""
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog, spool_bytes=16 << 20) as session:  # log files of 2 MiB
        tree, other = session.open(one), session.open(two)
        expected: dict[tuple[bytes, ...], bytes | None] = {}
        for number in range(10):
            name, data = b"%d" % number, noise(700_000, number)
            chosen, seq = session.workspace.commit_point([tree])
            put_file(tree, name, data)  # while a commit is on its way
            outcomes = session.committer.commit([each.no for each in chosen], seq)
            session.workspace.take(outcomes)
            expected[name,] = data
        assert session.workspace.log.numbers()[0] > 2
        tree.rename(tree.root, b"9", other.root, b"9")
        moved = {(b"9",): expected.pop((b"9",))}
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, one.uuid) == expected
    assert saved_contents(catalog, store, two.uuid) == moved


def unsettled(session: Session) -> list[FileNode]:
    return [file for tree in session.workspace.trees for file in tree.unsettled.values()]


def restart(session: Session) -> None:
    """The backend dies; its successor goes on from the log."""
    session.committer.close()
    session.committer = Committer(
        directory=session.directory, mount=session.workspace.mount, store=session.store, catalog=session.catalog,
        clock=session.clock, pool=session.pool, on_stored=session.workspace.stored,
    )  # fmt: skip


def test_a_commit_that_nobody_was_told_of_pins_nothing(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """It was saved; where its bytes went is told with the next commit, of whatever collection."""
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree, other = session.open(one), session.open(two)
        put_file(tree, b"a", b"first")
        chosen, seq = session.workspace.commit_point([tree])
        session.committer.commit([each.no for each in chosen], seq)
        restart(session)  # the engine was told that there is no backend, and asks for the next commit only
        put_file(other, b"b", b"second")
        session.committed(other)
        assert not unsettled(session)
        assert contents(tree) == {(b"a",): b"first"}


def test_a_barrier_that_failed_pins_nothing(tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    faulty = Faulty(store, "barrier: FAIL")
    with Session(tmp_path, store=faulty, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", b"first")
        assert session.commit()[0].error
        session.committed()
        assert not unsettled(session)
        assert saved_contents(catalog, store, record.uuid) == {(b"a",): b"first"}


def test_a_file_that_moved_during_a_commit_pins_nothing(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        source, target = session.open(one), session.open(two)
        put_file(source, b"a", b"first")
        chosen, seq = session.workspace.commit_point([source])
        source.rename(source.root, b"a", target.root, b"a")
        session.workspace.take(session.committer.commit([each.no for each in chosen], seq))
        session.committed()
        assert not unsettled(session)
        assert contents(target) == {(b"a",): b"first"}


def test_a_copy_keeps_what_it_refers_to_until_it_is_saved(tmp_path: Path, store: MemoryStore) -> None:
    """Its commit failed after its bytes were stored, so a recovery has to find them where its record says."""
    sound = MemoryCatalog(clock=SystemClock())
    catalog = FaultyCatalog(sound)
    one, two = sound.create(name="one"), sound.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog, spool_bytes=16 << 20) as session:
        tree, other = session.open(one), session.open(two)
        copy = other.create(other.root, b"copy")
        session.committed()
        put_file(tree, b"a", LARGE)
        small = put_file(tree, b"small", noise(500_000))
        put_file(tree, b"fill", noise(SMALL_BYTES - 100))
        put_file(tree, b"more", noise(SMALL_BYTES - 100))  # the next log file
        with session.workspace.shared.sharing:
            other.set_content(copy, tree.shareable(small))
        session.committed(tree)
        catalog.script = {"save": ["FAIL"]}
        assert session.commit(other)[0].error
        tree.unlink(tree.root, b"small")
        session.committed(tree)
    recovered(tmp_path, store=store, catalog=sound)
    assert saved_contents(sound, store, two.uuid) == {(b"copy",): noise(500_000)}


def save_elsewhere(catalog: MemoryCatalog, store: MemoryStore, uuid: str, directory: Path, changes: object) -> None:
    """Another mount opens the collection, does *changes* to its tree, and commits."""
    assert callable(changes)
    with Session(directory, store=store, catalog=catalog, mount=MountId(directory.name)) as session:
        changes(session.open(catalog.get(uuid)))
        session.committed()


@pytest.mark.parametrize("theirs", [b"theirs", None])
@pytest.mark.parametrize("deep", [False, True])
def test_what_took_a_name_after_the_commit_point_is_not_taken_for_what_was_there(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog, theirs: bytes | None, deep: bool
) -> None:
    """Somebody changed or deleted a file; we renamed another over it, or the directory above, meanwhile."""
    record = catalog.create(name="c")

    def above(tree: LiveTree, name: bytes) -> DirNode:
        found = tree.lookup(tree.root, name) if deep else tree.root
        assert isinstance(found, DirNode)
        return found

    def change(tree: LiveTree) -> None:
        if theirs is None:
            tree.unlink(above(tree, b"e"), b"f")
        else:
            put_file(tree, b"f", theirs, above(tree, b"e"))

    with Session(tmp_path / "m1", store=store, catalog=catalog) as session:
        tree = session.open(record)
        for name in (b"d", b"e"):
            tree.mkdir(tree.root, name)
        put_file(tree, b"f", b"base", above(tree, b"e"))
        put_file(tree, b"f" if deep else b"a", b"ours", above(tree, b"d"))
        session.committed()
        save_elsewhere(catalog, store, record.uuid, tmp_path / "m2", change)
        put_file(tree, b"other", b"o")
        chosen, seq = session.workspace.commit_point([tree])
        outcomes = session.committer.commit([each.no for each in chosen], seq)
        if deep:
            tree.rename(tree.root, b"e", tree.root, b"x")
            tree.rename(tree.root, b"d", tree.root, b"e")
        else:
            tree.rename(tree.root, b"a", tree.root, b"f")
        session.workspace.take(outcomes)
        live = contents(tree)
        assert live[(b"e", b"f") if deep else (b"f",)] == b"ours"
        assert theirs is None or theirs in live.values()
        session.committed()
        assert saved_contents(catalog, store, record.uuid) == live


def test_a_directory_that_was_made_after_the_commit_point_stays(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path / "m1", store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"other", b"o")
        chosen, seq = session.workspace.commit_point([tree])
        save_elsewhere(catalog, store, record.uuid, tmp_path / "m2", lambda tree: put_file(tree, b"d", b"theirs"))
        outcomes = session.committer.commit([each.no for each in chosen], seq)
        directory = tree.mkdir(tree.root, b"d")
        session.workspace.take(outcomes)
        put_file(tree, b"inside", b"ours", directory)
        live = contents(tree)
        assert live[b"d", b"inside"] == b"ours"
        assert b"theirs" in live.values()
        session.committed()
        assert saved_contents(catalog, store, record.uuid) == live


def test_a_merge_stores_the_zero_block_that_it_names(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """The line that it renders may need another one than either side had."""
    zeros = store.put(bytes(1024))
    text = f". {zeros} 0:512:theirs\n".encode()
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"ours", b"o")
        catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=PDH(pdh(text)), manifest=text))
        session.committed()
        for locator in locators(catalog.manifest(catalog.get(record.uuid).pdh)):
            assert store.contains(locator), locator


def test_a_failure_that_arrives_before_the_success_does_not_hide_it(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """The commit that stored the block began before the news of its first failure came."""
    record = catalog.create(name="c")
    faulty = Faulty(store, "adopt: FAIL")
    with Session(tmp_path, store=faulty, catalog=catalog, pool=InlinePool()) as session:
        tree = session.open(record)
        put_file(tree, b"a", LARGE)
        chosen, seq = session.workspace.commit_point([tree])
        session.committer.feed(seq)
        session.report_failed_puts()
        session.workspace.take(session.committer.commit([each.no for each in chosen], seq))
        assert not session.workspace.shared.blocks.all()
        assert session.workspace.shared.spool.level == 0


def test_a_block_that_failed_and_is_not_needed_gives_up_its_room(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=Faulty(store, "adopt: FAIL"), catalog=catalog, pool=InlinePool()) as session:
        tree = session.open(record)
        file = put_file(tree, b"a", noise(EARLY_SEAL_BYTES))
        tree.opened(file, write=True)
        tree.closed(file, write=True)
        session.committer.feed(session.workspace.log.flushed_seq)
        session.workspace.log.flush(session.workspace.log.seq)
        session.committer.feed(session.workspace.log.flushed_seq)
        session.report_failed_puts()
        tree.unlink(tree.root, b"a")
        session.committed()
        assert not session.workspace.shared.blocks.all()
        assert session.workspace.shared.spool.level == 0


def test_bytes_that_are_gone_are_an_error_and_no_endless_search(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog, spool_bytes=16 << 20) as session:  # log files of 2 MiB
        tree = session.open(record)
        small = put_file(tree, b"small", b"data")
        tree.unlink(tree.root, b"small")  # with no handle: its bytes go with a commit
        for number in range(3):
            put_file(tree, b"more", noise(900_000, number))
            session.committed()
        assert session.workspace.log.numbers()[0] > 1
        with pytest.raises(Damaged):
            tree.read(small, 0, 4)


def kept_names(catalog: MemoryCatalog) -> list[str]:
    return [record.name for record in catalog.collections() if "kept by" in record.name]


def test_what_is_set_aside_is_set_aside_once(tmp_path: Path, store: MemoryStore) -> None:
    """The other half of a move cannot be saved for some time."""
    sound = MemoryCatalog(clock=SystemClock())
    catalog = FaultyCatalog(sound)
    one, two = sound.create(name="one"), sound.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        source, target = session.open(one), session.open(two)
        put_file(source, b"a", b"first")
        put_file(source, b"b", b"second")
        source.rename(source.root, b"b", target.root, b"b")
        sound.trash(one.uuid)
        catalog.script = {"save": ["CONFLICT", "FAIL"]}
        assert session.commit()[0].error
        assert {outcome.quarantined is None for outcome in session.commit()} == {True, False}
    assert len(kept_names(sound)) == 1


def test_a_backend_goes_on_behind_what_was_set_aside(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    """No record says up to where it is safe, and its log files are gone."""
    one, two = catalog.create(name="one"), catalog.create(name="two")
    with Session(tmp_path, store=store, catalog=catalog, spool_bytes=16 << 20) as session:  # log files of 2 MiB
        tree, other = session.open(one), session.open(two)
        directory = tree.mkdir(tree.root, b"d")
        session.committed()
        put_file(tree, b"first", noise(900_000), directory)
        chosen, seq = session.workspace.commit_point([tree])
        for number in range(4):
            put_file(tree, b"%d" % number, noise(900_000, number), directory)
        session.workspace.take(session.committer.commit([each.no for each in chosen], seq))
        catalog.trash(one.uuid)
        assert session.commit()[0].quarantined
        put_file(other, b"a", b"first")
        restart(session)
        session.committed(other)
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, two.uuid) == {(b"a",): b"first"}
    assert len(kept_names(catalog)) == 1


@pytest.mark.parametrize("saved_before", [False, True])
def test_one_of_two_that_a_session_has_of_a_record_does_not_cover_the_other(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog, saved_before: bool
) -> None:
    """What was fsynced in one is kept (D2), though the other was saved since."""
    record = catalog.create(name="c")
    host = make_host(tmp_path, store, catalog)
    one, two = (host.open_tree(record, Manifest(b"")) for _ in range(2))
    if saved_before:
        put_file(one, b"before", b"b")
        host.commit([one])
    file = put_file(one, b"mine", b"data")
    one.fsync(file)
    host.keep(one)
    put_file(two, b"other", b"o")
    host.commit([two])
    heir = make_committer(tmp_path, store, catalog)
    (outcome,) = heir.recover()
    heir.close()
    host.close()
    kept = next(each for each in catalog.collections() if each.pdh == outcome.pdh)
    assert saved_contents(catalog, store, kept.uuid)[b"mine",] == b"data"
    assert ((b"before",) in saved_contents(catalog, store, kept.uuid)) == saved_before
