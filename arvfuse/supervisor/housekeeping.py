"""When a mount commits, and what it does with what it is told.

``Housekeeper`` owns one thread, and one that deletes spool files. It decides when a collection is committed (quiet,
deadline, spool half full, or asked for), lets one commit run at a time, takes outcomes and events from the backend, and
tells the kernel's notices. The engine's request threads only hand in what they want. Never once per close: an unasked
commit waits until the last one's duration has passed again, so its cost grows with time and data, not with files.

Failure: a commit that failed, or whose outcome could not be taken in, is tried again, later each time; who asked for it
is told. An error that nobody foresaw ends the thread, is logged, and fails whoever asks afterwards.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, Protocol

from arvfuse.backend.messages import Message, decode_change, decode_error, decode_record
from arvfuse.errors import ArvfuseError, NotCommitted, StoreUnavailable
from arvfuse.model.collections import Change, CollectionRecord
from arvfuse.ports import Clock
from arvfuse.sdk.closing import TREE_BYTES, retire
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import NODE_BYTES, DirNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.trimming import IndexOf, settle_on, trim
from arvfuse.sdk.workspace import Workspace
from arvfuse.supervisor.deleting import Deleting
from arvfuse.supervisor.directories import open_answer
from arvfuse.supervisor.repacking import Repacker, unsettled

log = logging.getLogger(__name__)

_BUSY_TICK_S: Final = 0.05  # how long a sealed block may wait to be told
_IDLE_TICK_S: Final = 1.0  # whoever begins to write wakes us
_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 60.0
_TRIM_PAUSE_S: Final = 5.0
_LOOK_PAUSE_S: Final = 1.0  # between two looks at how much memory trees use


class Backend(Protocol):
    """What a BackendLink offers to us."""

    def request(self, op: str, **args: Any) -> Future[Message]: ...

    def tell(self, seq: int) -> None: ...

    def next_event(self, timeout_s: float) -> Message | None: ...

    def wake_events(self) -> None: ...


class Shown(Protocol):
    """What the mount's operations offer to us."""

    def name_changed(self, directory: DirNode, name: bytes) -> None: ...

    def record_changed(self, change: Change) -> None: ...

    def expire(self) -> bool: ...

    def knows(self, number: int) -> bool: ...

    def trees_in_use(self) -> set[int]: ...

    def tree_closed(self, live: LiveTree) -> None: ...


class Timing(NamedTuple):
    """Seconds: see doc/semantics.md, commits."""

    quiet_s: float = 1.0
    deadline_s: float = 30.0


class _Asked(NamedTuple):
    trees: tuple[LiveTree, ...]
    keep_previous: bool
    done: Future[list[Outcome]]


class Housekeeper:
    """Commit timing, outcomes and events of one mount."""

    def __init__(
        self, workspace: Workspace, link: Backend, clock: Clock, *, timing: Timing | None = None, read_write: bool,
        memory_bytes: int = 256 << 20, index_of: IndexOf | None = None,
    ) -> None:  # fmt: skip
        """*index_of*: how ``trim`` gets the index of a directory; it may wait."""
        self._workspace: Final = workspace
        self._link: Final = link
        self._clock: Final = clock
        self._timing: Final = timing or Timing()
        self._read_write: Final = read_write
        self._memory_bytes: Final = memory_bytes
        self._index_of: Final = index_of
        self._thread: Final = threading.Thread(target=self._run, name="housekeeper")
        self._shown: Shown | None = None  # set once by start()

        self._lock: Final = threading.Lock()  # a leaf: dict work only
        self._inbox: deque[Callable[[], None]] = deque()  # guarded by: _lock
        self._ending = False  # guarded by: _lock
        self._failure: BaseException | None = None  # guarded by: _lock
        self._troubles: list[str] = []  # guarded by: _lock; quarantines, told by the unmount

        # Confined to the thread:
        self._asked: Final[deque[_Asked]] = deque()
        self._in_flight = False
        self._may_start_at = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = 0.0
        self._stale: Final[dict[int, LiveTree]] = {}  # changed elsewhere, not taken in yet
        self._refreshing: LiveTree | None = None
        self._trim_at = 0.0
        self._used_at: Final[dict[int, float]] = {}  # tree -> when it was seen in use
        self._repacker: Final = Repacker(link, clock, self._came_back)
        self._settled: Final[dict[int, str]] = {}  # tree -> the hash of the text on which it was settled last
        self._remembered: Final[set[int]] = set()  # blocks that the backend told of
        self._deleting: Final = Deleting(workspace.delete)

    def __repr__(self) -> str:
        state = "committing" if self._in_flight else "waiting"
        return f"<Housekeeper {state} asked={len(self._asked)} failure={self._failure!r}>"

    @property
    def troubles(self) -> list[str]:
        """What was set aside because it could not be committed as it was, one line each."""
        with self._lock:
            return list(self._troubles)

    def start(self, shown: Shown) -> None:
        """Start the thread; *shown* is told of names and records that changed."""
        self._shown = shown
        self._workspace.shared.begun = self._link.wake_events
        self._thread.start()

    def close(self) -> None:
        """Join the thread; commits that were asked for and have not begun fail. Harmless when repeated."""
        with self._lock:
            self._ending = True
        self._link.wake_events()
        if self._thread.is_alive():
            self._thread.join()
        self._deleting.close()

    def commit(self, trees: Sequence[LiveTree], *, keep_previous: bool = False) -> Future[list[Outcome]]:
        """Commit *trees* as they are now. NotCommitted if one of them was not, with the reason."""
        asked = _Asked(tuple(trees), keep_previous, Future())
        asked.done.set_running_or_notify_cancel()
        if not self._post(lambda: self._asked.append(asked)):
            asked.done.set_exception(StoreUnavailable("the mount is ending"))
        return asked.done

    def step(self, timeout_s: float) -> float:
        """One round: an event or none, what was handed in, and a commit if one is due. Seconds to wait at most.

        For the thread, and for tests that are it."""
        event = self._link.next_event(timeout_s)
        while event is not None:  # all, before the answer of a commit that they stand before
            self._take_event(event)
            event = self._link.next_event(0)
        with self._lock:
            handed_in, self._inbox = self._inbox, deque()
        for act in handed_in:
            act()
        self._link.tell(self._workspace.log.flushed_seq)
        self._workspace.tick()
        if not self._in_flight:
            self._start_commit()
        if self._stale and not self._in_flight and self._refreshing is None:
            self._refresh_one()
        if not self._in_flight:
            self._repacker.step()
        if self._shown is not None:
            self._shown.expire()
            self._trim(self._shown)
        return _BUSY_TICK_S if self._in_flight or self._workspace.dirty() else _IDLE_TICK_S

    def _run(self) -> None:
        wait_s = 0.0
        try:
            while not self._is_over():
                wait_s = self.step(wait_s)
        except Exception as error:  # top of the thread
            log.exception("the housekeeper failed; the log keeps every change for recovery")
            with self._lock:
                self._failure = error
        with self._lock:
            self._ending = True
            handed_in, self._inbox = self._inbox, deque()
        for act in handed_in:
            act()
        for asked in self._asked:
            asked.done.set_exception(StoreUnavailable("the mount is ending"))

    def _is_over(self) -> bool:
        with self._lock:
            return self._ending and not self._in_flight

    def _post(self, act: Callable[[], None]) -> bool:
        with self._lock:
            if self._ending:
                return False
            self._inbox.append(act)
        self._link.wake_events()
        return True

    # commits

    def _start_commit(self) -> None:
        asked = self._next_asked()
        due = [] if asked else self._due()
        if due:
            asked.append(_Asked(tuple(due), False, Future()))
        if asked:
            self._begin(asked)

    def _next_asked(self) -> list[_Asked]:
        """Those who wait and want the same: one commit for all has one flush and one transaction."""
        together: list[_Asked] = []
        while self._asked and (not together or self._asked[0].keep_previous == together[0].keep_previous):
            asked = self._asked.popleft()
            if any(tree.dirty for tree in asked.trees):
                together.append(asked)
            else:
                asked.done.set_result([])
        return together

    def _due(self) -> list[LiveTree]:
        """The trees whose time has come."""
        now = self._clock.monotonic()
        if not self._read_write:
            return []
        dirty = self._workspace.dirty()
        spool = self._workspace.shared.spool
        if dirty and spool.level > spool.limit // 2 and now >= self._retry_at:
            return dirty  # nobody waits for room before something is in flight
        if now < self._may_start_at:
            return []
        return [tree for tree in dirty if self._is_due(tree, now)]

    def _is_due(self, tree: LiveTree, now: float) -> bool:
        first, last = tree.first_change, tree.last_change
        if not first:
            return now >= self._retry_at  # what a failed commit left
        return now - last >= self._timing.quiet_s or now - first >= self._timing.deadline_s

    def _begin(self, together: Sequence[_Asked]) -> None:
        started = self._clock.monotonic()
        wanted = {tree.no: tree for asked in together for tree in asked.trees}
        try:
            trees, seq = self._workspace.commit_point(tuple(wanted.values()))
        except ArvfuseError as error:  # the log failed: what is in it is kept, no more is taken
            self._failed(started, str(error))
            _refuse(together, error)
            return
        self._in_flight = True
        self._link.tell(seq)
        answer = self._link.request(
            "commit", trees=[tree.no for tree in trees], seq=seq, keep_previous=together[0].keep_previous
        )
        answer.add_done_callback(lambda done: self._came_back(lambda: self._finish(together, started, done)))

    def _came_back(self, act: Callable[[], None]) -> None:
        """In the link's thread: the rest is ours. While a commit is in flight the thread does not end."""
        with self._lock:
            self._inbox.append(act)
        self._link.wake_events()

    def _finish(self, together: Sequence[_Asked], started: float, answer: Future[Message]) -> None:
        self._in_flight = False
        failure = answer.exception()
        if failure is not None:
            self._failed(started, str(failure))
            _refuse(together, failure)
            return
        outcomes = [Outcome.from_json(outcome) for outcome in answer.result()["outcomes"]]
        quarantined = [outcome.quarantined for outcome in outcomes if outcome.quarantined]
        with self._lock:
            self._troubles.extend(quarantined)
        changed = unsettled(self._workspace.trees)
        try:
            self._take(outcomes)
        except ArvfuseError as error:  # as if the answer were lost: the next commit tells it again
            self._failed(started, str(error))
            _refuse(together, NotCommitted(str(error)))
            return
        self._repacker.note(changed)
        errors = {
            outcome.tree: f"{outcome.uuid or f'tree {outcome.tree}'}: {outcome.error}"
            for outcome in outcomes
            if outcome.error
        }
        if errors:
            self._failed(started, "; ".join(errors.values()))
        else:
            ended = self._clock.monotonic()
            self._may_start_at = ended + (ended - started)
            self._retry_s, self._retry_at = _FIRST_RETRY_S, 0.0
        for asked in together:
            theirs = [errors[tree.no] for tree in asked.trees if tree.no in errors]
            if theirs:
                asked.done.set_exception(NotCommitted("; ".join(theirs)))
            else:
                asked.done.set_result(outcomes)
        self._tidy()

    def _failed(self, started: float, why: str) -> None:
        log.warning("not committed, tried again in %g s: %s", self._retry_s, why)
        ended = self._clock.monotonic()
        self._may_start_at = ended + (ended - started)
        self._retry_at = ended + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    # events

    def _take_event(self, event: Message) -> None:
        kind = event["event"]
        if kind == "stored":
            self._remembered.add(event["block"])
            self._workspace.stored(event["block"])
        elif kind == "failed":
            self._remembered.add(event["block"])
            self._workspace.failed(event["block"], decode_error(event["error"]))
        elif kind == "changed":
            for change in event["changes"]:
                if not change.get("echo"):
                    self._changed(decode_change(change))

    def _changed(self, change: Change) -> None:
        if self._shown is not None:
            self._shown.record_changed(change)
        if change.event == "trash":
            return  # nothing comes from there any more; what is changed here is kept by its next commit
        for tree in self._workspace.trees:
            if tree.uuid == change.uuid and tree.pdh != change.pdh:
                self._stale[tree.no] = tree

    def _refresh_one(self) -> None:
        """A clean tree takes what changed elsewhere; into a changed one the next commit merges it."""
        tree = next((tree for tree in self._stale.values() if not tree.dirty), None)
        if tree is None or tree.uuid is None:
            return
        del self._stale[tree.no]
        seq, pdh = tree.changed_seq, tree.pdh
        self._refreshing = tree
        answer = self._link.request("refresh", tree=tree.no, uuid=tree.uuid, pdh=pdh)
        answer.add_done_callback(lambda done: self._came_back(lambda: self._refreshed(tree, seq, pdh, done)))

    def _refreshed(self, tree: LiveTree, seq: int, pdh: str, answer: Future[Message]) -> None:
        self._refreshing = None
        failure = answer.exception()
        if failure is not None:
            log.warning("%s: not refreshed: %s", tree.uuid, failure)
            return
        if tree.changed_seq != seq or tree.pdh != pdh or self._in_flight:
            self._stale[tree.no] = tree  # changed here meanwhile: once more, if the commit has not merged it
            return
        outcome = Outcome.from_json({**answer.result()["outcome"], "seq": tree.asof})
        try:
            self._take([outcome])
        except ArvfuseError as error:
            log.warning("%s: not refreshed: %s", tree.uuid, error)
        self._tidy()

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        """Act on *outcomes*; the kernel is told of names that a merge changed."""
        for change in self._workspace.take_in(outcomes):
            if self._shown is not None:
                self._shown.name_changed(change.parent, change.name)

    # memory

    def _tidy(self) -> None:
        """Drop what no record needs any more; the backend forgets it too. No commit is in flight.

        The next commit does not wait until it is deleted either."""
        if self._workspace.tidy():
            self._deleting.begin()
        there = self._workspace.shared.blocks
        dropped = sorted(block for block in self._remembered if there.get(block) is None)
        if dropped:
            self._remembered.difference_update(dropped)
            self._link.request("forget", blocks=dropped)

    def _trim(self, shown: Shown) -> None:
        """Keep trees and nodes within half of what the mount may use, as far as the kernel lets go of them."""
        now = self._clock.monotonic()
        if now < self._trim_at:
            return
        self._trim_at = now + _LOOK_PAUSE_S
        if not self._is_above_half():
            return
        self._trim_at = now + _TRIM_PAUSE_S
        self._close_idle(shown, now)
        if not self._is_above_half():
            return
        trees = self._workspace.trees
        for tree in trees:
            trim(tree, shown.knows, self._index_of)
            if tree.root.below_changed and tree.uuid is not None and self._settled.get(tree.no) != tree.pdh:
                self._settle(tree)

    def _is_above_half(self) -> bool:
        used = sum(TREE_BYTES + tree.loaded * NODE_BYTES for tree in self._workspace.trees)
        return used > self._memory_bytes // 2

    def _close_idle(self, shown: Shown, now: float) -> None:
        """Close trees that were not in use for a while, those first that are unused for longest."""
        trees, busy = self._workspace.trees, shown.trees_in_use()
        for tree in trees:
            if tree.no in busy or tree.no not in self._used_at:
                self._used_at[tree.no] = now
        idle = [
            tree for tree in trees if now - self._used_at[tree.no] >= _TRIM_PAUSE_S and tree is not self._refreshing
        ]
        used = sum(TREE_BYTES + tree.loaded * NODE_BYTES for tree in trees)
        for tree in sorted(idle, key=lambda tree: self._used_at[tree.no]):
            if used <= self._memory_bytes // 2:
                break
            if retire(tree):
                self._workspace.close_tree(tree)
                shown.tree_closed(tree)
                self._used_at.pop(tree.no, None)
                self._stale.pop(tree.no, None)
                self._settled.pop(tree.no, None)
                used -= TREE_BYTES + tree.loaded * NODE_BYTES

    def _settle(self, tree: LiveTree) -> None:
        """Have the text of the newest commit opened, so that the next round can trim what was changed before it."""
        self._settled[tree.no] = pdh = tree.pdh
        answer = self._link.request("open", id=tree.uuid)

        def settle() -> None:
            if answer.exception() is not None:
                return
            record = decode_record(answer.result()["entry"])
            if isinstance(record, CollectionRecord) and record.pdh == pdh == tree.pdh:
                try:
                    manifest = open_answer(answer.result())
                except OSError as error:  # what cannot be read now is trimmed after the next commit
                    log.warning("%s: not trimmed: %s", tree.uuid, error)
                    return
                settle_on(tree, manifest)

        answer.add_done_callback(lambda _: self._came_back(settle))


def _refuse(together: Sequence[_Asked], error: BaseException) -> None:
    for asked in together:
        asked.done.set_exception(error)
