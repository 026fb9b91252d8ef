"""The committer: what a log says becomes stored blocks and a saved record. Recovery is the same code.

``feed`` reads records and hands sealed blocks to the put threads at once; ``commit`` applies what is due, packs,
renders, asks the store for its barrier and saves, with a three-way merge when the record moved. Nothing is saved
before its blocks are stored (D5); two writers never overwrite each other in silence (D6). A tree that cannot be
committed reports why and keeps its changes for the next try; a record that is gone gets its content quarantined.

Threading: ``feed`` and ``commit`` belong to one thread at a time (the owner serialises them).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from arvfuse.errors import ArvfuseError, CommitConflict, Damaged, NoSpace, NoSuchRecord, StoreUnavailable
from arvfuse.model import records
from arvfuse.model.collections import PDH, Applied, CollectionRecord, MountId, Save
from arvfuse.model.locators import ZERO_BLOCKS
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import pdh as pdh_of
from arvfuse.model.ranges import LOG, Ref
from arvfuse.model.records import Record, split_address
from arvfuse.parallel import run_in_parallel
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.sdk.blocks import pread_exactly, spool_path
from arvfuse.sdk.carrying import Places
from arvfuse.sdk.checkpoints import Checkpoints, Covered, is_asked, is_kept, note_kept
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.log import LogReader, log_path
from arvfuse.sdk.merging import TextsAhead, merged_text
from arvfuse.sdk.moved import Entry, Moved, write_moved
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.pack import Packer
from arvfuse.sdk.putpool import Pool
from arvfuse.sdk.puts import Puts
from arvfuse.sdk.replica import Replica, ReplicaTree

SAVE_TRIES: Final = 50
RECORD_KINDS: Final = frozenset({"record", "session"})  # trees whose commits are saved to a record, once they have one


class Saving(NamedTuple):
    """What a commit is to do with records. *save*: make the text the record's next version; else it is kept as a
    checkpoint. *merge*: take in what the record has become meanwhile; else a save raises CommitConflict."""

    save: bool = True
    merge: bool = True
    keep_previous: bool = False


class Committer:
    """Commits the trees of one log in *directory*. *keep_previous*: keep the version before (unmount, on request)."""

    def __init__(
        self, *, directory: Path, mount: MountId, store: BlockStore, catalog: Catalog | None, clock: Clock, pool: Pool,
        on_stored: Callable[[int], None] = lambda block: None, durable: bool = True,
        ahead: HashingAhead | None = None,
    ) -> None:  # fmt: skip
        self._directory: Final = directory
        self._mount: Final = mount
        self._store: Final = store
        self._catalog: Final = catalog
        self._clock: Final = clock
        self._pool: Final = pool
        self._applied: Final[Mapping[str, Applied]] = catalog.applied(mount) if catalog is not None else {}
        self._checkpoints: Final = Checkpoints(directory, durable=durable)
        self._ahead: Final = TextsAhead(catalog)
        self._pack_numbers: Final = itertools.count(1)
        self.replica: Final = Replica(self._open_manifest, self._covered)
        self._reader: Final = LogReader(directory)
        self._read_seq = 0
        self._due: deque[Record] = deque()  # read, not applied
        self._carried: set[int] = set()  # records that were taken from where they were carried to
        self._places: Final = Places()  # of data that were carried
        self._puts: Final = Puts(store, directory, pool, on_stored, ahead)
        self._unsure: dict[str, int] = {}  # uuid -> seq of a save whose answer was lost
        self._set_aside: dict[tuple[int, str], CollectionRecord] = {}  # tree, text -> what keeps it
        self._aside: set[int] = set()  # trees that go on in such a collection
        self._moved: list[Entry] = []  # what was packed and stands in no table yet
        self._log_fds: dict[int, int] = {}
        (directory / "spool").mkdir(parents=True, exist_ok=True)
        (directory / "moved").mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Close the files that are open. The pool is its owner's."""
        self._reader.close()
        self._forget_logs()

    # reading

    def feed(self, seq: int) -> None:
        """Read the log up to *seq* at least, and start storing the blocks that are sealed."""
        if seq <= self._read_seq:
            return
        for record in self._reader.read():
            self._read_seq = record.seq
            if isinstance(record.body, records.Carried):
                self._take_carried(record.body)
            else:
                self._take_in(record)

    def _take_in(self, record: Record) -> None:
        if isinstance(record.body, records.Seal):
            self._puts.seal(record.body, rewritten=bool(record.flags & records.REWRITTEN))
        elif isinstance(record.body, records.WriteBlock):
            self._puts.written(record.body)
        self._due.append(record)

    def _take_carried(self, carried: records.Carried) -> None:
        """Put the records that we have not read where they belong: before all that is due of their trees.

        Nothing behind them was applied: who has not read their file began when it was gone, and so read up to here."""
        self._places.note(carried)
        for record, _, _ in carried.records:
            if split_address(record.end)[0] not in self._reader.numbers and record.seq not in self._carried:
                self._carried.add(record.seq)
                self._take_in(record)
        self._due = deque(sorted(self._due, key=lambda record: record.seq))

    def apply_ahead(self) -> None:
        """Use idle time: apply what is due before the next commit point."""
        while self._due and not isinstance(self._due[0].body, records.Boundary):
            self._apply_next()

    def _apply_due(self, seq: int) -> None:
        while self._due and self._due[0].seq <= seq:
            self._apply_next()

    def _apply_next(self) -> None:
        """Apply a record; it stays due if it cannot be applied (the base text is out of reach)."""
        self.replica.apply(self._due[0])
        self._due.popleft()

    # committing

    def commit(
        self, trees: Sequence[int], seq: int, *, keep_previous: bool = False, save: bool = True, merge: bool = True
    ) -> list[Outcome]:
        """Commit *trees* as of record *seq*, a commit point of theirs. One outcome per tree. See `Saving`.

        Trees of kind "record" are always saved: a checkpoint would hide from a recovery what they have to merge."""
        try:
            self.feed(seq)
            self._apply_due(seq)
        except (ArvfuseError, OSError) as exc:
            return _failed([(no, None) for no in trees], seq, exc)
        chosen = [self.replica.trees[no] for no in trees if no in self.replica.trees]
        unknown = [(no, None) for no in trees if no not in self.replica.trees]
        lost = _failed(unknown, seq, Damaged("the log of the mount is gone: nothing of it can be committed"))
        saving = Saving(save, merge, keep_previous)
        outcomes = self._commit(chosen, seq, saving)
        groups = self._tied_groups(chosen)
        if len(groups) > 1 and any(isinstance(outcome.cause, Damaged) for outcome in outcomes):
            outcomes = self._commit_apart(groups, seq, saving)
        return [*outcomes, *lost]

    def _commit_apart(self, groups: Sequence[list[ReplicaTree]], seq: int, saving: Saving) -> list[Outcome]:
        """Whatever is lost of one tree, it keeps no other from being saved."""
        outcomes = [outcome for group in groups for outcome in self._commit(group, seq, saving)]
        # Each table of what moved takes in the one before, of which nobody was told yet.
        moved = next((outcome.moved for outcome in reversed(outcomes) if outcome.moved), None)
        return [outcome._replace(moved=moved) if outcome.moved else outcome for outcome in outcomes]

    def _tied_groups(self, trees: Sequence[ReplicaTree]) -> list[list[ReplicaTree]]:
        """*trees*, those together that have to be saved together."""
        groups: dict[int, list[ReplicaTree]] = {}
        for tree in trees:
            groups.setdefault(self.replica.tied(tree)[0].no, []).append(tree)
        return list(groups.values())

    def provide(self, no: int, text: bytes) -> None:
        """*text* is what tree *no* starts from: no record has it. Before the tree's first record is flushed."""
        self._checkpoints.keep(no, 0, pdh_of(text), text)

    def bind(self, no: int, record: CollectionRecord) -> None:
        """*record* was made of tree *no* as it is committed: later commits are saved to it."""
        tree = self.replica.trees.get(no)
        if tree is not None:
            tree.uuid, tree.version, tree.merge_base = record.uuid, int(record.version), str(record.pdh)
            tree.base = tree.base._replace(uuid=record.uuid, name=record.name, owner=record.owner)

    def recover(self) -> list[Outcome]:
        """Commit everything that a dead log holds: one outcome per tree with changes that no save covers."""
        self.feed(1 << 62)
        self._apply_due(1 << 62)
        outcomes: list[Outcome] = []
        done: set[int] = set()
        for tree in list(self.replica.trees.values()):
            tree.orphans.clear()  # nobody is left who holds them open
        for tree in list(self.replica.trees.values()):
            if tree.kind == "record" and tree.dirty and tree.no not in done:
                joined = [each for each in self.replica.tied(tree) if each.kind == "record"]
                done.update(each.no for each in joined)
                outcomes.extend(self._commit(joined, self._read_seq, Saving(keep_previous=True)))
            unsaved = tree.dirty or self._checkpoints.covered(tree.no) is not None
            asked = tree.kind == "session" and is_asked(self._directory, tree.no)
            if (asked or (tree.kind == "output" and unsaved)) and not is_kept(self._directory, tree.no):
                outcomes.append(self._quarantine_unsaved(tree))
        return outcomes

    def _commit(self, trees: list[ReplicaTree], seq: int, saving: Saving) -> list[Outcome]:
        try:
            packed, _ = run_in_parallel(lambda: self._packer().pack(trees), lambda: self._ahead.load(trees))
            self._moved.extend(packed)
            texts = {tree.no: self._render(tree) for tree in trees}
            self._store.barrier()
            moved = self._write_moved(trees, seq)
        except (ArvfuseError, OSError) as exc:
            return _failed([(tree.no, tree.uuid) for tree in trees], seq, exc)
        try:
            outcomes = self._save(trees, seq, texts, moved, saving)
            for tree, outcome in zip(trees, outcomes, strict=True):
                # No record says up to where it is safe; behind the save of what moved from it.
                if outcome.quarantined or tree.no in self._aside:
                    self._checkpoints.keep(tree.no, seq, pdh_of(texts[tree.no]), texts[tree.no])
                elif tree.kind == "session" and tree.uuid is not None and saving.save:
                    self._checkpoints.note_saved(tree.no, seq, outcome.ours_pdh)
        except (ArvfuseError, OSError) as exc:
            return _failed([(tree.no, tree.uuid) for tree in trees], seq, exc, moved)
        for tree, outcome in zip(trees, outcomes, strict=True):
            self._committed(tree, seq, texts[tree.no], outcome, saved=saving.save or saving.merge)
        self._ahead.drop()
        self._forget_logs()
        return outcomes

    def _packer(self) -> Packer:
        return Packer(
            store=self._store, pool=self._pool, spool=self._directory / "spool", fetch=self._fetch, place=self._place,
            stored=self._puts.put, numbers=self._pack_numbers,
        )  # fmt: skip

    def _render(self, tree: ReplicaTree) -> bytes:
        text, zeros = tree.render()
        self._store_zeros(zeros)
        return text

    def _store_zeros(self, zeros: set[str]) -> bool:
        """Let the store have these zero blocks; whether it did not."""
        missing = [locator for locator in zeros if not self._store.contains(locator)]
        for locator in missing:
            self._store.put(bytes(ZERO_BLOCKS[locator]))
        return bool(missing)

    def _write_moved(self, trees: list[ReplicaTree], seq: int) -> str | None:
        """The name of the table of all that moved and that the side that wrote the log does not know yet.

        It deletes what it took in. So tables that are still there tell of commits that failed, or that nobody was told
        of because a committer or its answer was lost: this one says it all."""
        if not trees:
            return None
        path = self._directory / "moved" / f"{seq}-{trees[0].no}"
        path.parent.mkdir(parents=True, exist_ok=True)
        older = [each for each in path.parent.iterdir() if each != path and each.suffix != ".new"]
        if self._moved or older:
            there = [Moved.read(each) for each in (*older, path) if each.exists()]
            write_moved(path, [*self._moved, *(entry for table in there for entry in table.entries())])
            self._moved.clear()
            for each in older:
                each.unlink(missing_ok=True)
        return path.name if path.exists() else None

    def _save(
        self, trees: list[ReplicaTree], seq: int, texts: Mapping[int, bytes], moved: str | None, saving: Saving
    ) -> list[Outcome]:
        """Save all in one transaction, merging those whose record moved, until no version moves meanwhile."""
        for _ in range(SAVE_TRIES):
            saves: list[Save] = []
            outcomes: list[Outcome] = []
            for tree in trees:
                outcome, save = self._prepare(tree, seq, texts[tree.no], moved, saving)
                outcomes.append(outcome)
                if save is not None:
                    saves.append(save)
            try:
                saved = self._save_all(saves)
            except CommitConflict:
                continue
            return [_with_record(outcome, saved.get(outcome.uuid or "")) for outcome in outcomes]
        raise CommitConflict("the record kept moving while it was saved; try again")

    def _save_all(self, saves: list[Save]) -> dict[str, CollectionRecord]:
        if not saves:
            return {}
        assert self._catalog is not None
        try:
            made = [self._catalog.save(saves[0])] if len(saves) == 1 else self._catalog.save_many(saves)
        except CommitConflict:
            raise
        except ArvfuseError:
            self._unsure.update((save.uuid, save.applied.seq) for save in saves if save.applied is not None)
            raise
        for save in saves:
            self._unsure.pop(save.uuid, None)
        return {record.uuid: record for record in made}

    def _learn_saved(self, tree: ReplicaTree, uuid: str) -> None:
        """Find out whether a save whose answer was lost was made: then it is what we build on, not somebody else's."""
        seq = self._unsure.get(uuid)
        if seq is None:
            return
        assert self._catalog is not None
        applied = self._catalog.applied(self._mount).get(uuid)
        if applied is not None and applied.seq == seq and tree.merge_seq <= seq:
            tree.merge_base = str(applied.ours_pdh)
        del self._unsure[uuid]

    def _prepare(
        self, tree: ReplicaTree, seq: int, text: bytes, moved: str | None, saving: Saving
    ) -> tuple[Outcome, Save | None]:
        ours = pdh_of(text)
        of_record = tree.kind in RECORD_KINDS and tree.uuid is not None and self._catalog is not None
        if not of_record or not (saving.save or saving.merge):
            self._checkpoints.keep(tree.no, seq, ours, text)
            return Outcome(
                tree=tree.no, seq=seq, uuid=tree.uuid, version=tree.version, pdh=ours, ours_pdh=ours, moved=moved,
                text=text,
            ), None  # fmt: skip
        assert tree.uuid is not None
        assert self._catalog is not None
        try:
            current = self._catalog.get(tree.uuid)
        except NoSuchRecord:
            if ours != tree.merge_base and text:
                return self._quarantine(tree, seq, text, moved), None
            # nothing that the record did not have: what was written went to files that have no name any more
            self._checkpoints.keep(tree.no, seq, ours, text)
            return Outcome(
                tree=tree.no, seq=seq, uuid=tree.uuid, version=tree.version, pdh=ours, ours_pdh=ours, moved=moved,
                text=text,
            ), None  # fmt: skip
        self._learn_saved(tree, tree.uuid)
        final = text
        effects: tuple[Any, ...] = ()
        if current.pdh != tree.merge_base and current.pdh != ours:
            if not saving.merge:
                raise CommitConflict(f"collection {tree.uuid} is at version {current.version} now")
            final, effects, zeros = merged_text(
                base=self._open_manifest(PDH(tree.merge_base)), ours=tree, ours_text=text,
                theirs=self._open_manifest(current.pdh), theirs_ns=current.modified_at_ns, now_ns=self._clock.time_ns(),
            )  # fmt: skip
            if self._store_zeros(zeros):
                self._store.barrier()
            if saving.save:
                self._catalog.keep_manifest(PDH(ours), text)
        if not saving.save:
            self._checkpoints.keep(tree.no, seq, ours, text)
            return Outcome(
                tree=tree.no, seq=seq, uuid=tree.uuid, version=current.version, pdh=current.pdh, ours_pdh=ours,
                moved=moved, effects=effects, text=final,
            ), None  # fmt: skip
        pdh = PDH(pdh_of(final)) if effects else PDH(ours)
        outcome = Outcome(
            tree=tree.no, seq=seq, uuid=tree.uuid, version=current.version, pdh=pdh, ours_pdh=ours, moved=moved,
            effects=effects, text=final,
        )  # fmt: skip
        save = Save(
            uuid=tree.uuid, expect=current.version, pdh=pdh, manifest=final, keep_previous=saving.keep_previous,
            applied=Applied(mount=self._mount, seq=seq, ours_pdh=PDH(ours)),
        )  # fmt: skip
        return outcome, save

    def _quarantine(self, tree: ReplicaTree, seq: int, text: bytes, moved: str | None) -> Outcome:
        """The record is gone: its content becomes a collection of its own, and that is reported.

        Once for each text, however often the rest of the commit fails."""
        assert self._catalog is not None
        name = f"{tree.base.name or tree.uuid} (kept by mount {self._mount})"
        ours = pdh_of(text)
        made = self._set_aside.get((tree.no, ours))
        if made is None:
            made = self._catalog.create(name=name, manifest=text, ensure_unique_name=True)
            self._set_aside[tree.no, ours] = made
        why = f"collection {tree.uuid} is gone; its content was kept as {made.uuid}"
        return Outcome(
            tree=tree.no, seq=seq, uuid=tree.uuid, version=0, pdh=made.pdh, ours_pdh=made.pdh, moved=moved, text=text,
            quarantined=f"{why} ({name})",
        )  # fmt: skip

    def _quarantine_unsaved(self, tree: ReplicaTree) -> Outcome:
        """An output, or what a library user asked to keep, that nobody saved: kept under a name of its own."""
        try:
            self._packer().pack([tree])
            text = self._render(tree)
            self._store.barrier()
            outcome = self._quarantine(tree, self._read_seq, text, None)
            note_kept(self._directory, tree.no)
            return outcome
        except ArvfuseError as exc:
            return Outcome(tree=tree.no, seq=self._read_seq, error=str(exc), cause=exc)

    def _committed(self, tree: ReplicaTree, seq: int, text: bytes, outcome: Outcome, *, saved: bool) -> None:
        if saved:
            tree.version = outcome.version
            if not outcome.effects:
                tree.merge_base = outcome.pdh
        new = self.replica.rebase(tree, seq, outcome.ours_pdh, Manifest(text))
        if not outcome.quarantined:
            return
        new.uuid = None
        if tree.kind == "record":  # what was accepted before anybody knew goes there too
            made = self._set_aside[tree.no, outcome.ours_pdh]
            new.uuid, new.version, new.merge_base = made.uuid, int(made.version), str(made.pdh)
            self._aside.add(tree.no)

    # bytes

    def failed_puts(self) -> dict[int, BaseException]:
        """Blocks whose last put failed, and why."""
        return self._puts.failed()

    def forget_block(self, block: int) -> None:
        """The side that wrote the block dropped it."""
        self._puts.forget(block)

    def forget_blocks_but(self, there: Container[int]) -> None:
        """All blocks that are not in *there* were dropped."""
        self._puts.forget_but(there)

    def _fetch(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        if isinstance(ref, str):
            return self._store.fetch_range(ref, offset, length)
        if ref == LOG:
            number, position = split_address(offset)
            return pread_exactly(self._log_fd(number), position, length)
        fd = os.open(spool_path(self._directory, ref), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return pread_exactly(fd, offset, length)
        finally:
            os.close(fd)

    def _place(self, address: int) -> int:
        return self._places.find(address) or address

    def _log_fd(self, number: int) -> int:
        fd = self._log_fds.get(number)
        if fd is None:
            opened = os.open(log_path(self._directory, number), os.O_RDONLY | os.O_CLOEXEC)
            fd = self._log_fds.setdefault(number, opened)
            if fd != opened:  # another put thread was quicker
                os.close(opened)
        return fd

    def _forget_logs(self) -> None:
        fds, self._log_fds = list(self._log_fds.values()), {}
        for fd in fds:
            os.close(fd)

    def _covered(self, no: int, uuid: str | None) -> Covered | None:
        """What is safe of a tree without its log: by the newest save of this mount, or by a checkpoint."""
        checkpoint = self._checkpoints.covered(no)
        applied = self._applied.get(uuid) if uuid else None
        if applied is None or (checkpoint is not None and checkpoint.seq > applied.seq):
            return checkpoint
        return Covered(applied.seq, str(applied.ours_pdh))

    def _open_manifest(self, pdh: PDH) -> Manifest:
        text = self._ahead.take(pdh) or self._checkpoints.text(pdh)
        if text is not None:
            return Manifest(text)
        if self._catalog is None:
            raise Damaged(f"no catalog to read manifest {pdh} from")
        return Manifest(self._catalog.manifest(pdh))


def _failed(
    trees: Sequence[tuple[int, str | None]], seq: int, error: ArvfuseError | OSError, moved: str | None = None
) -> list[Outcome]:
    """Outcomes of (tree, uuid) that say what went wrong, in words of ours."""
    cause: ArvfuseError
    if isinstance(error, ArvfuseError):
        cause = error
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        cause = NoSpace(str(error.filename or ""), f"no room to commit ({error.strerror})")
    else:
        cause = StoreUnavailable(str(error))
    return [Outcome(tree=no, seq=seq, uuid=uuid, moved=moved, error=str(cause), cause=cause) for no, uuid in trees]


def _with_record(outcome: Outcome, record: CollectionRecord | None) -> Outcome:
    if record is None:
        return outcome
    return outcome._replace(version=int(record.version))
