"""Two collections in lives of a mount that crash, beside what they must contain: tests/property/test_crashes.py.

`World` does what a random program says to a workspace and its committer, on a store and a catalog that can fail, and to
plain bytes. Sizes are scaled down (`small_sizes`), so that a few kilobytes meet every cut, seal, pack and roll-over.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arvfuse.backend.lookups import Lookups
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import ArvfuseError, LogFailed, StoreUnavailable
from arvfuse.model.collections import MountId, Save
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.closing import retire
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import log_path
from arvfuse.sdk.nodes import DirNode, FileNode, Node
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.repacking import is_fragmented, repack
from arvfuse.sdk.tree import Tree
from arvfuse.sdk.trimming import settle_on, trim
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool
from tests.support.sessions import Contents, Session, contents, locators, saved_contents
from tests.support.smalldisk import files_end_at
from tests.support.smallsizes import SMALL

Place = tuple[bytes, ...]


class File:
    """What a file must contain, whatever it is called."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)


Entries = dict[Place, File | None]
"""What a tree must hold by path, None for a directory."""


class Side:
    """One of the two collections."""

    def __init__(self, uuid: str, saved: Contents) -> None:
        self.uuid = uuid
        self.entries: Entries = {}
        self.base: Contents = saved  # what the record and we had in common last
        self.foreign = False  # somebody else saved since
        self.theirs: dict[Place, bytes] = {}  # what they wrote
        self.replaced: set[bytes | None] = set()  # what they took out of the record, ours too if it was saved

    def model(self) -> Contents:
        return {path: None if file is None else bytes(file.data) for path, file in self.entries.items()}

    def files(self) -> list[Place]:
        return sorted(path for path, file in self.entries.items() if file is not None)

    def dirs(self) -> list[Place]:
        return [(), *sorted(path for path, file in self.entries.items() if file is None)]


class World:
    """Everything, and the operations on it: each method that the program names."""

    def __init__(self, directory: Path) -> None:
        self.top = directory
        self.clock = FakeClock()
        self.sound = MemoryCatalog(clock=self.clock)
        self.blocks = MemoryStore()
        self.store = Faulty(self.blocks)
        self.catalog = FaultyCatalog(self.sound)
        self.lives = 0
        self.written = 0
        self.sides: list[Side] = []
        self.handles: list[tuple[FileNode, File, bool]] = []
        self.flight: tuple[list[int], int, list[Contents]] | None = None
        for name in ("one", "two"):
            record = self.sound.create(name=name)
            self.sides.append(Side(record.uuid, {}))
        self.begin()

    # lives

    def begin(self) -> None:
        """A new mount on what the records say."""
        self.lives += 1
        self.session = Session(
            self.top / f"m{self.lives}", store=self.store, catalog=self.catalog, clock=self.clock,
            pool=InlinePool(), mount=MountId(f"m{self.lives}"), spool_bytes=1 << 30,
        )  # fmt: skip
        self.trees: list[LiveTree] = []
        self.handles.clear()
        self.flight = None
        for side in self.sides:
            self.trees.append(self.session.open(self.sound.get(side.uuid)))
            self.opened(side)

    def close(self) -> None:
        self.session.close()

    def crash(self, script: str) -> None:
        """Every process is killed; the next mount recovers, at the second attempt if the first fails."""
        self.session.workspace.log.flush(0)
        mount, dead = self.session.directory.name, self.top / f"dead{self.lives}"
        shutil.copytree(self.session.directory, dead)  # what a kill leaves: all that was handed to the kernel
        self.session.close()
        before = [side.model() for side in self.sides]
        theirs = [saved_contents(self.sound, self.blocks, side.uuid) for side in self.sides]
        for words in (script, ""):
            self.store.rescript(words)
            committer = Committer(
                directory=dead, mount=MountId(mount), store=self.store, catalog=self.sound, clock=self.clock,
                pool=InlinePool(),
            )  # fmt: skip
            outcomes = committer.recover()
            committer.close()
        assert not [
            outcome.error or outcome.quarantined for outcome in outcomes if outcome.error or outcome.quarantined
        ]
        for side, ours, other in zip(self.sides, before, theirs, strict=True):
            self.check_saved(side, ours, other)
        self.begin()

    def restart(self) -> None:
        """The backend dies; the next one goes on from the log."""
        self.session.committer.close()
        self.session.committer = Committer(
            directory=self.session.directory, mount=self.session.workspace.mount, store=self.store,
            catalog=self.catalog, clock=self.clock, pool=self.session.pool, on_stored=self.session.workspace.stored,
            ahead=HashingAhead(self.session.directory, self.session.pool),
        )  # fmt: skip

    # commits

    def start(self, which: int) -> None:
        """A commit point, while no other commit is on its way."""
        if self.flight is None:
            chosen = {0: self.trees[:1], 1: self.trees[1:], 2: self.trees}[which % 3]
            trees, seq = self.session.workspace.commit_point(chosen)
            self.flight = [tree.no for tree in trees], seq, [side.model() for side in self.sides]

    def feed(self, script: str) -> None:
        """The backend reads what the log has by now, and stores what is sealed."""
        self.store.rescript(script)
        self.session.committer.feed(self.session.workspace.log.flushed_seq)
        self.store.rescript("")
        self.session.report_failed_puts()

    def finish(self, how: str, script: str, verb: str, word: str) -> None:
        """What becomes of the commit that is on its way."""
        if self.flight is None:
            return
        numbers, seq, before = self.flight
        if how == "before":
            self.restart()
        theirs = [saved_contents(self.sound, self.blocks, side.uuid) for side in self.sides]
        self.store.rescript(script)
        self.catalog.script = {verb: [word]} if verb else {}
        outcomes = self.session.committer.commit(numbers, seq)
        self.store.rescript("")
        self.catalog.script = {}
        self.session.report_failed_puts()
        if how in ("lost", "refused", "crash"):
            for index, (tree, side) in enumerate(zip(self.trees, self.sides, strict=True)):
                if tree.no in numbers and not any(outcome.error for outcome in outcomes):
                    self.check_saved(side, before[index], theirs[index])
            if how == "crash":
                return self.crash(script)
            self.restart()
            if how == "refused":  # the engine was told that there is no backend, and does not ask again
                self.flight = None
                return None
            outcomes = self.session.committer.commit(numbers, seq)
        self.flight = None
        return self.take(outcomes, before, theirs)

    def take(self, outcomes: list[Outcome], before: list[Contents], theirs: list[Contents]) -> None:
        live_before = [contents(tree) for tree in self.trees]
        self.session.workspace.take(outcomes)
        failed = [outcome for outcome in outcomes if outcome.error]
        assert not [outcome for outcome in outcomes if outcome.quarantined]
        for outcome in outcomes:
            index = [tree.no for tree in self.trees].index(outcome.tree)
            side = self.sides[index]
            if failed:
                continue
            self.check_saved(side, before[index], theirs[index])
            self.check_blocks(side)
            if side.foreign:
                self.merged(index, live_before)
        if not failed:
            for tree in self.trees:
                if not tree.dirty and not self.handles:
                    assert not tree.unsettled, "references into log and spool that no commit will replace"

    def merged(self, index: int, live_before: list[Contents]) -> None:
        """What a merge made of the live tree is what there is now; nothing of ours went, as far as we changed it."""
        side, tree = self.sides[index], self.trees[index]
        after = contents(tree)
        there = set(after.values())
        for path, data in live_before[index].items():
            if data is not None and data not in side.base.values() and data not in side.replaced:
                assert data in there, f"lost by a merge: {path!r}"
        known = {id(node): file for node, file, _ in self.handles}
        entries: Entries = {}
        for path, node in walk(tree):
            entries[path] = None if isinstance(node, DirNode) else known.get(id(node), File(after[path] or b""))
        side.entries = entries
        side.foreign = False
        side.theirs.clear()
        side.replaced.clear()
        side.base = saved_contents(self.sound, self.blocks, side.uuid)

    def check_saved(self, side: Side, ours: Contents, theirs: Contents) -> None:
        """The record holds *ours*, and what somebody else saved (*theirs*) as well."""
        saved = saved_contents(self.sound, self.blocks, side.uuid)
        if not side.foreign:
            assert saved == ours
            side.base = saved
            return
        there = set(saved.values())
        for path, data in [*ours.items(), *side.theirs.items()]:
            if data is not None and data not in side.base.values() and data not in side.replaced:
                assert data in there, f"lost: {path!r}"
        for path, data in side.base.items():
            if data is not None and ours.get(path) == theirs.get(path) == data:
                assert saved.get(path) == data

    def check_blocks(self, side: Side) -> None:
        """A saved record names no block that the store does not hold (D5)."""
        for locator in locators(self.sound.manifest(self.sound.get(side.uuid).pdh)):
            assert self.blocks.contains(locator), locator

    def foreign(self, which: int, name: bytes, kind: str) -> None:
        """Somebody else saves the collection: another file, a changed one, one less."""
        side = self.sides[which % 2]
        record = self.sound.get(side.uuid)
        theirs = Tree(Manifest(self.sound.manifest(record.pdh)), reserve=lambda count: 0)
        old = theirs.table(theirs.root).get(name)
        if isinstance(old, DirNode):
            return
        if old is None and kind == "delete":
            return
        if old is not None:
            side.replaced.add(saved_contents(self.sound, self.blocks, side.uuid)[name,])
            theirs.detach(theirs.root, name, 0)
            side.theirs.pop((name,), None)
        if kind != "delete":
            file = FileNode(0, theirs)
            theirs.attach(theirs.root, name, file, 0)
            data = self.data(20)
            theirs.set_segments(file, [(len(data), self.blocks.put(data), 0), (300, -1, 0)], 0)
            side.theirs[name,] = data + bytes(300)
        text, zeros = theirs.render()
        for zero in zeros:
            self.blocks.put(bytes(int(zero.partition("+")[2])))
        self.clock.advance(1)
        self.sound.save(Save(uuid=side.uuid, expect=record.version, pdh=pdh(text), manifest=text))
        side.foreign = True

    def refresh(self, which: int) -> None:
        """A tree without changes of ours takes in what the record is now."""
        index = which % 2
        tree, side = self.trees[index], self.sides[index]
        if tree.dirty or self.flight is not None:
            return
        answer = Lookups(self.sound, self.session.directory).answer(
            "refresh", {"tree": tree.no, "uuid": side.uuid, "pdh": tree.pdh}
        )
        before = [contents(each) for each in self.trees]
        self.session.workspace.take([Outcome.from_json({**answer["outcome"], "seq": tree.asof})])
        self.merged(index, before)

    def trim(self) -> None:
        """Memory of directories that nobody needs is given back."""
        for tree in self.trees:
            if not tree.dirty and self.flight is None:
                settle_on(tree, Manifest(self.sound.manifest(tree.pdh)))  # type: ignore[arg-type] # a PDH
            trim(tree, lambda _: False)

    def reopen(self, which: int) -> None:
        """A tree that nobody uses is closed; it is opened again from what its record is now."""
        index = which % 2
        tree, side = self.trees[index], self.sides[index]
        if self.flight is not None or any(node.tree is tree for node, _, _ in self.handles) or not retire(tree):
            return
        self.session.workspace.close_tree(tree)
        self.trees[index] = self.session.open(self.sound.get(side.uuid))
        self.opened(side)

    def opened(self, side: Side) -> None:
        """A tree is what its record is."""
        side.base = saved_contents(self.sound, self.blocks, side.uuid)
        side.foreign = False
        side.theirs.clear()
        side.replaced.clear()
        side.entries = {path: None if data is None else File(data) for path, data in side.base.items()}

    # names

    def find(self, place: tuple[int, Place]) -> Node:
        node: Node = self.trees[place[0]].root
        for name in place[1]:
            assert isinstance(node, DirNode)
            node = self.trees[place[0]].lookup(node, name)
        return node

    def directory(self, index: int) -> tuple[int, Place]:
        places = [(which, path) for which, side in enumerate(self.sides) for path in side.dirs()]
        return places[index % len(places)]

    def file(self, index: int) -> tuple[int, Place] | None:
        places = [(which, path) for which, side in enumerate(self.sides) for path in side.files()]
        return places[index % len(places)] if places else None

    def create(self, index: int, name: bytes) -> None:
        which, path = self.directory(index)
        above = self.find((which, path))
        entries = self.sides[which].entries
        if (*path, name) not in entries:
            self.trees[which].create(above, name)  # type: ignore[arg-type] # a directory
            entries[*path, name] = File()

    def mkdir(self, index: int, name: bytes) -> None:
        which, path = self.directory(index)
        entries = self.sides[which].entries
        if (*path, name) not in entries:
            self.trees[which].mkdir(self.find((which, path)), name)  # type: ignore[arg-type] # a directory
            entries[*path, name] = None

    def remove(self, index: int, name: bytes) -> None:
        which, path = self.directory(index)
        entries = self.sides[which].entries
        if (*path, name) in entries:
            self.trees[which].remove_tree(self.find((which, path)), name)  # type: ignore[arg-type] # a directory
            for each in [each for each in entries if each[: len(path) + 1] == (*path, name)]:
                del entries[each]

    def rename(self, index: int, name: bytes, target: int, new_name: bytes) -> None:
        (which, path), (other, new_path) = self.directory(index), self.directory(target)
        old, new = (*path, name), (*new_path, new_name)
        entries, targets = self.sides[which].entries, self.sides[other].entries
        if old not in entries:
            return
        try:
            self.trees[which].rename(self.find((which, path)), name, self.find((other, new_path)), new_name)  # type: ignore[arg-type] # directories
        except LogFailed:
            raise
        except ArvfuseError:
            into_itself = which == other and new[: len(old)] == old
            assert into_itself or new in targets, "refused without a reason"
            return
        if which == other and old == new:
            return
        moved = {each: entries.pop(each) for each in list(entries) if each[: len(old)] == old}
        targets.pop(new, None)
        targets.update({(*new, *each[len(old) :]): file for each, file in moved.items()})

    # content

    def data(self, length: int) -> bytes:
        self.written += 1
        return (b"<%d>" % self.written * length)[:length]

    def target(self, index: int) -> tuple[FileNode, File] | None:
        """A file that has a name, or a handle for writing."""
        choice: list[tuple[Any, Any]] = [
            (which, path) for which, side in enumerate(self.sides) for path in side.files()
        ]
        choice += [(node, file) for node, file, write in self.handles if write]
        if not choice:
            return None
        one, other = choice[index % len(choice)]
        if isinstance(one, FileNode):
            return one, other
        node, file = self.find((one, other)), self.sides[one].entries[other]
        assert isinstance(node, FileNode)
        assert file is not None
        return node, file

    def write(self, index: int, offset: int, length: int) -> None:
        if found := self.target(index):
            node, file = found
            data = self.data(length)
            assert node.tree.write(node, offset, data) == length  # type: ignore[attr-defined] # a live tree
            file.data.extend(bytes(max(0, offset - len(file.data))))
            file.data[offset : offset + length] = data

    def append(self, index: int, length: int) -> None:
        if found := self.target(index):
            self.write(index, len(found[1].data), length)

    def truncate(self, index: int, size: int) -> None:
        if found := self.target(index):
            node, file = found
            node.tree.truncate(node, size)  # type: ignore[attr-defined] # a live tree
            file.data = file.data[:size].ljust(size, b"\0")

    def copy(self, index: int, other: int) -> None:
        source, target = self.target(index), self.target(other)
        if source and target and source[1] is not target[1]:
            with self.session.workspace.shared.sharing:
                parts = source[0].tree.shareable(source[0])  # type: ignore[attr-defined] # a live tree
                target[0].tree.set_content(target[0], parts)  # type: ignore[attr-defined] # a live tree
            target[1].data = bytearray(source[1].data)

    def repack(self, index: int) -> None:
        """A fragmented file is repacked, which changes nothing that it contains."""
        place = self.file(index)
        node = self.find(place) if place is not None else None
        if isinstance(node, FileNode) and is_fragmented(parts := node.parts()):
            (made,) = repack(self.blocks, self.top / "repack", [parts])
            assert node.tree.repack(node, node.version, made) != bool(node.buffers)  # type: ignore[attr-defined] # a live tree

    def open(self, index: int, write: bool) -> None:
        place = self.file(index)
        if place is not None:
            node, file = self.find(place), self.sides[place[0]].entries[place[1]]
            assert isinstance(node, FileNode)
            assert file is not None
            node.tree.opened(node, write=write)  # type: ignore[attr-defined] # a live tree
            self.handles.append((node, file, write))

    def shut(self, index: int) -> None:
        if self.handles:
            node, _, write = self.handles.pop(index % len(self.handles))
            node.tree.closed(node, write=write)  # type: ignore[attr-defined] # a live tree

    def churn(self, which: int) -> None:
        """So much is written to one collection, and committed, that the log goes on in another file."""
        if self.flight is not None:
            return
        side, tree = self.sides[which % 2], self.trees[which % 2]
        for name in (b"z0", b"z1", b"z2", b"z3", b"z4"):
            if (name,) not in side.entries:
                tree.create(tree.root, name)
                side.entries[name,] = File()
            node, file = tree.lookup(tree.root, name), side.entries[name,]
            assert isinstance(node, FileNode)
            assert file is not None
            data = self.data(SMALL - 10)
            tree.write(node, 0, data)
            file.data[: len(data)] = data
        self.start(which % 2)
        self.finish("told", "", "", "")

    def full(self, verb: str, *args: Any) -> None:
        """The disk of the log takes no more: a change is refused, and was never made; then this life ends."""
        log = self.session.workspace.log
        log.flush(log.seq)
        path = log_path(self.session.directory, log.file_number)
        with files_end_at(path.stat().st_size if path.exists() else 0):
            try:
                getattr(self, verb)(*args)
            except (LogFailed, StoreUnavailable):  # of the log, or of the spool
                self.check()
        self.crash("")

    def fsync(self, index: int) -> None:
        if found := self.target(index):
            found[0].tree.fsync(found[0])  # type: ignore[attr-defined] # a live tree

    # what must hold after every step

    def check(self) -> None:
        for tree, side in zip(self.trees, self.sides, strict=True):
            assert contents(tree) == side.model()
        for node, file, _ in self.handles:
            assert bytes(node.tree.read(node, 0, node.size)) == file.data  # type: ignore[attr-defined] # a live tree


def walk(tree: LiveTree) -> Iterator[tuple[Place, Node]]:
    stack: list[tuple[Place, DirNode]] = [((), tree.root)]
    while stack:
        path, directory = stack.pop()
        for name, node in tree.entries(directory):
            yield (*path, name), node
            if isinstance(node, DirNode):
                stack.append(((*path, name), node))
