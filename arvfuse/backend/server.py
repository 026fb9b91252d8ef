"""The backend process: look-ups, commits, changes from elsewhere, and recovery of dead mounts.

``Backend`` owns its threads: ``lookup-*`` answer questions (never behind a commit), ``commit`` commits, ``feed-pump``
tells changes, ``recovery`` takes over dead mounts. The main thread reads both sockets and does nothing slow. It ends
when the supervisor says so, or when both the supervisor and the engine are gone; a dead engine's log is then committed
first. Failure: what cannot be opened is told to the supervisor in one line; a thread that fails ends the process, and
its successor goes on from the log.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from arvfuse.backend import later, mountdirs
from arvfuse.backend.committing import Committing
from arvfuse.backend.feedpump import FeedPump
from arvfuse.backend.messages import Channel, Message, encode_error
from arvfuse.backend.parts import Parts
from arvfuse.backend.recovery import Recovered, await_draining, recover_all, recover_log
from arvfuse.model.collections import MountId
from arvfuse.sdk.outcome import Outcome

if TYPE_CHECKING:
    from arvfuse.backend.lookups import Lookups

log = logging.getLogger(__name__)

_LOOKUP_THREADS: Final = 2
DRAINING_WAIT_S: Final = 10.0


class Serving(NamedTuple):
    """What a backend serves: its mount and the mount's directory."""

    mount: MountId
    directory: Path
    read_write: bool


class Backend:
    """One backend of one mount. run() returns when it is over."""

    def __init__(self, parts: Parts, serving: Serving, engine: Channel, supervisor: Channel) -> None:
        self._parts: Final = parts
        self._serving: Final = serving
        self._engine: Final = engine
        self._supervisor: Final = supervisor
        self._lookups: Lookups | None = None  # guarded by: _opening
        self._opening: Final = threading.Lock()
        self._lookup_pool: Final = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="lookup")
        self._repacks: Final = itertools.count(1)  # names of temporary files
        self._failed_fd: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._committing: Final = Committing(parts, serving.directory, serving.mount, engine, self._committer_failed)
        self._pump: Final = FeedPump(parts.catalog.feed(), engine, writer=parts.writer)
        self._recovery: Final = threading.Thread(target=self._recover, name="recovery")
        self._ending: Final = threading.Event()
        self._engine_gone = False  # confined to the main thread
        self._supervisor_gone = False  # confined to the main thread

    def run(self) -> int:
        """Serve until told to end; the exit code of the process."""
        self._committing.start()
        self._pump.start()
        if self._serving.read_write:
            self._recovery.start()
        else:
            waiting = mountdirs.waiting(self._parts.directory)
            self._tell_supervisor({"told": "recovered", "waiting": list(waiting), "draining": [], "results": []})
            self._lookup_pool.submit(later.read_modules, later.BACKEND)
        try:
            while self._serve_once():
                pass
        finally:
            self._close()
        return 1 if self._committing.failure is not None else 0

    def _close(self) -> None:
        self._ending.set()
        if self._recovery.is_alive():
            self._recovery.join()
        self._lookup_pool.shutdown(wait=True, cancel_futures=True)
        self._pump.close()
        self._committing.close()
        os.close(self._failed_fd)

    def _serve_once(self) -> bool:
        poll = select.poll()
        poll.register(self._failed_fd, select.POLLIN)
        if not self._engine_gone:
            poll.register(self._engine, select.POLLIN)
        if not self._supervisor_gone:
            poll.register(self._supervisor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._failed_fd in ready:
            return False
        if not self._engine_gone and self._engine.fileno() in ready:
            received = self._engine.receive()
            if received is None:
                self._engine_gone = True
                log.info("the engine is gone")
            else:
                self._take(received.message)
        if not self._supervisor_gone and self._supervisor.fileno() in ready:
            received = self._supervisor.receive()
            if received is None:
                self._supervisor_gone = True
                log.warning("the supervisor is gone; the mount drains and ends")
            else:
                return self._obey(received.message)
        if self._engine_gone and self._supervisor_gone:
            self._finish()
            return False
        return True

    # the engine

    def _take(self, message: Message) -> None:
        if "told" in message:
            self._committing.tell(message["told"])
            return
        number, op, args = message["id"], message["op"], message["args"]
        again = bool(message.get("again"))
        if op == "commit":
            outcomes = self._committing.commit(
                args["trees"], args["seq"], keep_previous=bool(args.get("keep_previous"))
            )
            outcomes.add_done_callback(lambda done: self._answer(number, done, _encode_outcomes))
        elif op == "provide":
            provided = self._committing.provide(args["tree"], Path(args["file"]).read_bytes())
            provided.add_done_callback(lambda done: self._answer(number, done, lambda _: {}))
        elif op == "forget":
            self._committing.forget(args["blocks"])
            self._reply(number, {})
        else:
            answer = self._lookup_pool.submit(self._look_up, op, args, again)
            answer.add_done_callback(lambda done: self._answer(number, done, lambda result: result))

    def _look_up(self, op: str, args: Mapping[str, Any], again: bool) -> Message:
        if op == "barrier":
            self._parts.store.barrier()
            return {}
        if op == "status":
            return self._status()
        if op == "repack":
            temporary = self._serving.directory / "spool" / f"repack{next(self._repacks)}"
            from arvfuse.sdk.repacking import repack  # see later

            return {"files": repack(self._parts.store, temporary, args["files"])}
        return self._open_lookups().answer(op, args, again=again)

    def _open_lookups(self) -> Lookups:
        with self._opening:
            if self._lookups is None:
                from arvfuse.backend.lookups import Lookups  # see later

                self._lookups = Lookups(self._parts.catalog, self._serving.directory)
            return self._lookups

    def _answer(self, number: int, done: Future[Any], encode: Any) -> None:
        if done.cancelled():
            return  # we are ending; the successor is asked again
        error = done.exception()
        if error is not None and self._committing.failure is not None:
            return
        if error is not None:
            self._send_engine({"id": number, "error": encode_error(error)})
        else:
            self._reply(number, encode(done.result()))

    def _reply(self, number: int, result: Message) -> None:
        self._send_engine({"id": number, "result": result})

    def _send_engine(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # gone; the main thread sees it
            self._engine.send(message)

    # the supervisor

    def _obey(self, message: Message) -> bool:
        if message["do"] == "finish":
            self._finish()
            return False
        if message["do"] == "end":
            return False
        if message["do"] == "status":
            self._tell_supervisor({"told": "status", "status": self._status()})
        return True

    def _finish(self) -> None:
        """The engine is dead: commit what its log holds, and say what could not be."""
        self._committing.close()
        if self._serving.read_write and mountdirs.has_changes(self._serving.directory):
            result = recover_log(self._parts, self._serving.directory, self._serving.mount)
        else:
            result = Recovered(mount=self._serving.mount)
        log.info("finished %s", result)
        self._tell_supervisor({"told": "finished", "result": encode_recovered(result)})

    def _recover(self) -> None:
        draining: list[MountId] = []
        results: list[Recovered] = []
        try:
            draining = await_draining(self._parts, DRAINING_WAIT_S, but=self._serving.mount)
            for mount in draining:
                log.warning("mount %s still drains; what it commits arrives as a change from elsewhere", mount)
            results = recover_all(self._parts, but=self._serving.mount)
        except Exception:  # top of the thread
            log.exception("recovery of dead mounts failed; they are kept")
        told = {"waiting": [], "draining": list(draining), "results": [encode_recovered(result) for result in results]}
        self._tell_supervisor({"told": "recovered", **told})
        self._lookup_pool.submit(later.read_modules, later.BACKEND)
        self._lookup_pool.submit(self._sweep)

    def _sweep(self) -> None:
        """Remove old indexes; with the threads of look-ups, as it takes one of them for a second once a day."""
        from arvfuse.backend.sweeping import sweep  # see later

        removed = sweep(
            self._parts.directory / "manifests", now_ns=self._parts.clock.time_ns(), is_over=self._ending.is_set
        )
        if removed:
            log.info("%d indexes that nobody used were removed", removed)

    def _status(self) -> Message:
        return {"committing": repr(self._committing), "recovering": self._recovery.is_alive()}

    def _tell_supervisor(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # gone; the main thread sees it
            self._supervisor.send(message)

    def _committer_failed(self) -> None:
        os.eventfd_write(self._failed_fd, 1)


def encode_recovered(result: Recovered) -> Message:
    """A recovery as a value for a message or for ``--json``."""
    return {
        "mount": result.mount,
        "committed": list(result.committed),
        "quarantined": list(result.quarantined),
        "left": list(result.left),
    }


def _encode_outcomes(outcomes: list[Outcome]) -> Message:
    return {"outcomes": [outcome.to_json() for outcome in outcomes]}
