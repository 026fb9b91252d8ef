"""The live side of one mount or session: its directory ``mounts/<id>/`` with log and spool, and the trees in use.

Gives commit points (``commit_point``) and takes what the committer made of them (``take``): references into log and
spool are replaced by locators, then the files that nothing needs any more are deleted, by this side alone.
Threading: any thread; ``take`` calls are serialised by the owner.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from arvfuse.errors import ArvfuseError, LogFailed, StoreUnavailable
from arvfuse.model.blockstate import Event, State
from arvfuse.model.collections import CollectionRecord, MountId
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import LOG
from arvfuse.ports import BlockStore, Clock
from arvfuse.sdk import carrying
from arvfuse.sdk.blocks import BufferBlock
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import LOG_FILE_BYTES, LogWriter, log_path
from arvfuse.sdk.moved import Moved
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.shared import STALL_BOUND_S, Numbers, Shared
from arvfuse.sdk.taking import NameChange, read_here, take_effects
from arvfuse.sync import SpoolAccount

log = logging.getLogger(__name__)

DEFAULT_SPOOL_BYTES: Final = 8 << 30
MIN_LOG_FILE_BYTES: Final = 2 << 20
_YIELD_EVERY: Final = 32


class Workspace:
    """Log, spool and live trees. Close it after the last commit; what is not committed stays in the directory."""

    def __init__(
        self, directory: Path, *, mount: MountId, store: BlockStore, clock: Clock, boot_id: bytes = bytes(16),
        spool_bytes: int = DEFAULT_SPOOL_BYTES, reserve_bytes: int = 0, numbers: Numbers | None = None,
        stall_bound_s: float = STALL_BOUND_S, read_directory: Callable[[DirNode], None] = read_here,
    ) -> None:  # fmt: skip
        """*read_directory*: how ``take`` gets the names of a big directory; it may wait."""
        self.mount: Final = mount
        self.directory: Final = directory
        self.numbers: Final = numbers or Numbers()
        (directory / "spool").mkdir(parents=True, exist_ok=True)
        writer = LogWriter(
            directory, boot_id=boot_id, clock=clock, reserve_bytes=reserve_bytes,
            file_bytes=max(MIN_LOG_FILE_BYTES, min(LOG_FILE_BYTES, spool_bytes // 8)),
        )  # fmt: skip
        self.shared: Final = Shared(
            directory, log=writer, store=store, clock=clock, spool=SpoolAccount(spool_bytes), numbers=self.numbers,
            stall_bound_s=stall_bound_s,
        )  # fmt: skip
        self._read_directory: Final = read_directory
        self._trees: dict[int, LiveTree] = {}  # by root number; dict work is atomic
        self._abandoned: set[int] = set()  # trees that were closed with changes; set work is atomic

    @property
    def log(self) -> LogWriter:
        return self.shared.log

    @property
    def trees(self) -> list[LiveTree]:
        """The trees in use."""
        return list(self._trees.values())

    def open_tree(
        self, record: CollectionRecord | None, manifest: Manifest | None, *, kind: str = "record", writable: bool = True
    ) -> LiveTree:
        """A live tree on a base text. *kind*: record, output or tmp."""
        tree = LiveTree(self.shared, manifest, record, kind=kind, writable=writable)
        self._trees[tree.no] = tree
        return tree

    def close_tree(self, tree: LiveTree) -> None:
        """Forget a tree, which nobody uses any more; its changes have to be committed (they stay in the log else)."""
        if self._trees.pop(tree.no, None) is not None and tree.dirty:
            self._abandoned.add(tree.no)
        self.shared.undo.forget(tree.notes)
        for block in self.shared.blocks.all():
            if block.file.tree is tree and block.state is State.WRITABLE and not block.writers:
                self.shared.discard(block)

    def room(self) -> Future[None] | None:
        """None while the spool has room; else what is settled when it has, or fails at the stall bound (see tick)."""
        return self.shared.spool.when_room(self.shared.clock) if self.shared.spool.full else None

    def tick(self) -> None:
        """Fail whoever waits for room while the store makes no progress. The owner calls it now and then."""
        self.shared.fail_stalled()

    def dirty(self) -> list[LiveTree]:
        """Trees with changes that no commit covered."""
        return [tree for tree in self.trees if tree.dirty]

    def commit_point(self, trees: Iterable[LiveTree]) -> tuple[list[LiveTree], int]:
        """Seal the writable blocks of *trees* (and of those a move joined to them) and log a common commit point.

        (The trees, the number up to which they are to be committed.) Writes wait for the moments that this takes."""
        wanted = {tree.no for tree in trees}
        while (made := self._try_commit_point(wanted)) is None:
            pass  # a move joined another tree meanwhile
        chosen, seq = made
        self.shared.flush(seq)
        self.shared.discard_unused()
        failed = [block for block in self.shared.blocks.all() if block.state is State.ERROR]
        used = self._references()[0] if failed else set()
        for block in failed:
            if block.no in used and block.state is State.ERROR:
                block.advance(Event.RETRY)
        return chosen, seq

    def _try_commit_point(self, wanted: set[int]) -> tuple[list[LiveTree], int] | None:
        """The trees to be committed with *wanted* and their common Boundary; None if a move changed which these are.

        A tree saved without the one that a Move before the Boundary joined to it would take the entry from both."""
        numbers = self.shared.tied(wanted)
        chosen = [self._trees[no] for no in sorted(numbers) if no in self._trees]
        with ExitStack() as gates:
            for tree in chosen:
                tree.close_gate()
                gates.callback(tree.open_gate)
            with ExitStack() as locks:
                for tree in chosen:
                    locks.enter_context(tree.lock)
                if self.shared.tied(wanted) != numbers:
                    return None
                seq = 0
                for tree in chosen:
                    seq = tree.boundary_locked()
        return chosen, seq

    def stored(self, block: int) -> None:
        """The store has a sealed block."""
        self.shared.stored(block)

    def failed(self, block: int, error: Exception) -> None:
        """Storing a sealed block failed; its bytes are kept and the next commit tries again."""
        buffered = self.shared.blocks.get(block)
        if buffered is not None and buffered.state is State.PENDING:
            buffered.advance(Event.FAILED)

    def take(self, outcomes: Sequence[Outcome]) -> list[NameChange]:
        """take_in(), tidy() and delete()."""
        changes = self.take_in(outcomes)
        if self.tidy():
            self.delete()
        return changes

    def take_in(self, outcomes: Sequence[Outcome]) -> list[NameChange]:
        """Act on what a commit told; the names that a merge changed. What nobody needs any more is left for tidy().

        StoreUnavailable, Damaged: a table cannot be read. Then nothing is covered, as if nobody had told us: the next
        commit tells it again."""
        changes: list[NameChange] = []
        ours = [(tree, outcome) for outcome in outcomes if (tree := self._trees.get(outcome.tree)) is not None]
        for tree, outcome in ours:
            why = outcome.error or outcome.quarantined
            if why is not None:
                self._report(tree, outcome, why)
            if outcome.quarantined:
                tree.writable = False
        tables = self._read_tables(outcome for _, outcome in ours)
        for tree, outcome in ours:
            if outcome.error is not None:
                continue
            with tree.lock:
                tree.rebase(outcome.seq, outcome.ours_pdh or outcome.pdh)
                if not outcome.effects:
                    tree.version, tree.pdh = outcome.version, outcome.pdh
        done = {outcome.tree for outcome in outcomes if outcome.error is None}
        whole = len(done) == len(outcomes)
        if done and whole:
            self.shared.untie(done, min(outcome.seq for outcome in outcomes))
        for name, moved in tables.items():
            with self.shared.sharing:
                settled = self._settle(moved)
            if settled and whole:  # else the next table takes in what it says
                with _reported():
                    (self.directory / "moved" / name).unlink(missing_ok=True)
        if not tables:
            self._settle(None)
        for tree, outcome in ours:
            if outcome.effects and outcome.error is None:
                changes.extend(take_effects(tree, outcome, self._read_directory))
        return changes

    def tidy(self) -> bool:
        """Drop what nobody needs any more of spool and log; whether there is something to delete() then."""
        with self.shared.sharing:
            blocks, logs = self._unneeded()
        try:
            self.shared.flush(self.log.seq)  # else a death brings back what we saw to be gone, and that needs its bytes
        except LogFailed:
            return False
        for block in blocks:
            self.shared.discard(block, later=True)
        with _reported():
            for number in logs:
                self.shared.drop_log(number)
        with self.shared.sharing:
            self._carry_forward()
        return self.shared.blocks.left

    def delete(self) -> None:
        """Delete spool files that were dropped; those that cannot be are tried again by the next call. Any thread.

        Nobody should wait for it: to unlink a file of a thousand pieces can take a tenth of a second."""
        self.shared.blocks.unlink_left()

    def _read_tables(self, outcomes: Iterable[Outcome]) -> dict[str, Moved]:
        """What *outcomes* tell of moved bytes, by the name of the table."""
        names = {outcome.moved for outcome in outcomes if outcome.moved}
        try:
            return {name: Moved.read(self.directory / "moved" / name) for name in sorted(names)}
        except OSError as exc:
            raise StoreUnavailable(f"what a commit moved cannot be read: {exc}") from exc

    def _settle(self, moved: Moved | None) -> bool:
        """Replace references into log and spool by locators, a file at a time so that nobody waits long; forget files
        that have none.

        In all trees: a file may have moved to another since the commit point. False if a file has to wait for the
        commit that covers the copy that made it: until then the record of the copy refers to log and spool, which
        must not go before."""
        settled = True
        for tree in self.trees:
            for file in list(tree.unsettled.values()):
                with tree.lock:
                    if tree.unsettled.get(file.no) is not file:
                        continue
                    if file.copied_seq > tree.asof:
                        settled = False
                        continue
                    if moved is not None:
                        file.segments.remap(moved.resolve)
                    if not file.is_local:
                        del tree.unsettled[file.no]
        return settled

    def _report(self, tree: LiveTree, outcome: Outcome, why: str) -> None:
        """Let the next flush of every changed file say what went wrong, once per change (D4).

        Also where its bytes are stored by now, or it has none: it is the change that is in no record. Files without
        a name stand among the unsettled only."""
        error = StoreUnavailable(why)
        with tree.lock:
            files = {node.no: node for node in tree.root.loaded() if isinstance(node, FileNode)}
            told = max(tree.failed_seq, tree.asof)
            for file in (files | tree.unsettled).values():
                if told < file.changed_seq <= outcome.seq:
                    file.error = error
                    file.error_mark += 1
            tree.failed_seq = max(tree.failed_seq, outcome.seq)

    def _unneeded(self) -> tuple[list[BufferBlock], list[int]]:
        """The sealed blocks and the log files that no record, node, handle or unlinked file needs."""
        used, data = self._references()
        blocks = [
            block
            for block in self.shared.blocks.all()
            if block.state in (State.COMMITTED, State.ERROR)
            and block.no not in used
            and self._is_covered(block.sealed_in, block.seal_seq)
        ]
        logs: list[int] = []
        kept: set[int] = set()  # trees that were closed with changes: a reader needs their records without a gap
        files = {self.log.file_of(address) for address in data}
        for number in self.log.numbers():
            uses = self.shared.log_uses(number)
            if number in files or any(not self._is_covered(tree, use.last) for tree, use in uses.items()):
                kept |= self._abandoned & set(uses)
            elif number < self.log.file_number and not kept & set(uses):
                logs.append(number)
        return blocks, logs

    def _carry_forward(self) -> None:
        """If the log is longer than it may be, rewrite what is needed of the file of which that is the least.

        One file a call: it is read whole. Nothing is lost if we die at any point: copies and originals are one."""
        sizes = self.log.sizes()
        if sum(sizes.values()) <= carrying.SLACK_BYTES:
            return
        uses = {number: self.shared.log_uses(number) for number in sizes}
        needed = {
            number: sum(use.needed_bytes(self._trees[no].asof) for no, use in rows.items() if no in self._trees)
            for number, rows in uses.items()
        }
        _, data = self._references()
        for address, length in data.items():
            if (number := self.log.file_of(address)) in needed:
                needed[number] += length
        able = {number: (size, needed[number] if not self._abandoned & set(uses[number]) else size)
                for number, size in sizes.items()}  # fmt: skip
        chosen = carrying.choose(able, carrying.SLACK_BYTES)
        if chosen is None:
            return
        starts = sorted(data)

        def has_reference(first: int, length: int) -> bool:
            index = bisect_left(starts, first)
            return index < len(starts) and starts[index] < first + length

        wanted = carrying.Needed(lambda tree, seq: not self._is_covered(tree, seq), has_reference)
        with _reported():
            self.shared.carry(chosen, carrying.copies(log_path(self.directory, chosen), chosen, wanted))

    def _is_covered(self, tree: int, seq: int) -> bool:
        """Whether a commit covers record *seq* of a tree, or nobody wants it any more."""
        live = self._trees.get(tree)
        return live is None or seq <= live.asof

    def _references(self) -> tuple[set[int], dict[int, int]]:
        """The buffer blocks that files refer to, and the inline data: log address -> length."""
        used: set[int] = set()
        data: dict[int, int] = {}
        for tree in self.trees:
            with tree.lock:
                for file in tree.unsettled.values():
                    for segment in file.segments:
                        if segment.ref == LOG:
                            data[segment.offset] = max(segment.length, data.get(segment.offset, 0))
                        elif isinstance(segment.ref, int) and segment.ref > 0:
                            used.add(segment.ref)
        return used, data

    def close(self) -> None:
        """Close files. Nothing is deleted: a clean end is the owner's to declare."""
        self.log.close()
        self.shared.blocks.close()


@contextmanager
def _reported() -> Iterator[None]:
    """A file that cannot be deleted, or rewritten, is a line in the log and no more: the next round tries again."""
    try:
        yield
    except (ArvfuseError, OSError) as exc:
        log.warning("not deleted, tried again later: %s", exc)
