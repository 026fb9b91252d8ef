"""The thread in which the backend reads the log and commits.

``Committing`` owns the Committer of its mount and the put threads. Threading: any thread may tell or submit; the
thread ``commit`` alone touches the committer. Numbers told are coalesced; a commit that waits goes first. Failure: a
commit that failed is an outcome with an error; anything unforeseen ends the process (``failure``), because the log is
whole and the successor starts from it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from arvfuse.backend.messages import Channel, encode_error
from arvfuse.backend.parts import Parts
from arvfuse.errors import StoreUnavailable
from arvfuse.model.collections import MountId
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.putpool import PutPool

if TYPE_CHECKING:
    from arvfuse.sdk.commit import Committer

log = logging.getLogger(__name__)

_IDLE_S: Final = 1.0
_START_S: Final = 0.2  # until the committer is read though nobody has told or asked anything


class Committing:
    """Feeds and commits for one living mount."""

    def __init__(
        self, parts: Parts, directory: Path, mount: MountId, engine: Channel, on_failure: Callable[[], None]
    ) -> None:
        self._parts: Final = parts
        self._directory: Final = directory
        self._mount: Final = mount
        self._engine: Final = engine
        self._on_failure: Final = on_failure  # called once, from our thread
        self._pool: Final = PutPool()
        self._ahead_pool: Final = PutPool(1)
        self._thread: Final = threading.Thread(target=self._run, name="commit")
        self._changed: Final = threading.Condition(threading.Lock())
        self._jobs: deque[tuple[Callable[[Committer], Any], Future[Any]]] = deque()  # guarded by: _changed
        self._told = 0  # guarded by: _changed
        self._closing = False  # guarded by: _changed
        self._failure: BaseException | None = None  # guarded by: _changed
        self._fed = 0  # confined to the thread, as is what was reported
        self._reported: dict[int, BaseException] = {}

    def __repr__(self) -> str:
        with self._changed:
            return f"Committing(told={self._told}, fed={self._fed}, waiting={len(self._jobs)})"

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread, if it did not end on purpose."""
        with self._changed:
            return self._failure

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish the commit that runs, refuse what waits, join. Harmless when repeated."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._ahead_pool.close()
        self._pool.close()

    def tell(self, seq: int) -> None:
        """The log is flushed up to *seq*."""
        with self._changed:
            self._told = max(self._told, seq)
            self._changed.notify_all()

    def commit(self, trees: Sequence[int], seq: int, *, keep_previous: bool = False) -> Future[list[Outcome]]:
        """Commit *trees* up to *seq*; one outcome for each."""
        return self._submit(lambda committer: committer.commit(trees, seq, keep_previous=keep_previous))

    def provide(self, tree: int, text: bytes) -> Future[None]:
        """*text* is what *tree* starts from; no record has it."""
        return self._submit(lambda committer: committer.provide(tree, text))

    def forget(self, blocks: Sequence[int]) -> None:
        """The engine dropped these blocks."""

        def forget(committer: Committer) -> None:
            for block in blocks:
                committer.forget_block(block)

        self._submit(forget)

    def _submit(self, job: Callable[[Committer], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            refused = self._closing or self._failure is not None
            if not refused:
                self._jobs.append((job, future))
                self._changed.notify_all()
        if refused:
            future.set_exception(StoreUnavailable("the backend is ending"))
        return future

    def _run(self) -> None:
        try:
            with self._changed:  # nothing to do yet: whoever tells that the mount can be made goes first
                self._changed.wait_for(lambda: self._jobs or self._closing or self._told, _START_S)
            from arvfuse.sdk.commit import Committer  # see later
            from arvfuse.sdk.hashahead import HashingAhead

            committer = Committer(
                directory=self._directory,
                mount=self._mount,
                store=self._parts.store,
                catalog=self._parts.catalog,
                clock=self._parts.clock,
                pool=self._pool,
                on_stored=self._stored,
                ahead=HashingAhead(self._directory, self._ahead_pool),
            )
            try:
                while self._step(committer):
                    pass
            finally:
                committer.close()
        except Exception as error:  # top of the thread
            log.exception("the committer failed; a new backend goes on from the log")
            with self._changed:
                self._failure = error
        with self._changed:
            refused, self._jobs = list(self._jobs), deque()
            failed = self._failure is not None
        for _, future in refused:
            future.set_exception(StoreUnavailable("the backend is ending"))
        if failed:
            self._on_failure()

    def _step(self, committer: Committer) -> bool:
        with self._changed:
            due = self._changed.wait_for(lambda: self._jobs or self._closing or self._told > self._fed, _IDLE_S)
            if self._closing:
                return False
            job = self._jobs.popleft() if self._jobs else None
            told = self._told
        if job is not None:
            self._do(job[0], job[1], committer)
        elif told > self._fed:
            committer.feed(told)
            self._fed = told
        elif not due:
            committer.apply_ahead()
        self._report(committer)
        return True

    def _do(self, job: Callable[[Committer], Any], future: Future[Any], committer: Committer) -> None:
        try:
            result = job(committer)
        except BaseException:
            with self._changed:
                self._jobs.appendleft((job, future))  # refused when the thread ends
            raise
        future.set_result(result)

    def _stored(self, block: int) -> None:
        self._tell_engine({"event": "stored", "block": block})

    def _report(self, committer: Committer) -> None:
        """Tell of puts that failed since the last look; the next commit tries them again."""
        failed = committer.failed_puts()
        for block, error in failed.items():
            if self._reported.get(block) is not error:
                self._tell_engine({"event": "failed", "block": block, "error": encode_error(error)})
        self._reported = failed

    def _tell_engine(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is gone; the process' main thread sees that and decides
            self._engine.send(event)
