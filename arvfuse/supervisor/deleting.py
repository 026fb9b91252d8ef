"""Deleting the spool files that a mount dropped, while nobody waits for it.

``Deleting`` owns one thread, which lives while there is something to delete; begin() and close() are the housekeeper's.
Failure: a file that cannot be deleted is a line in the log and tried again by the next begin(); where no thread can be
started the caller deletes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from arvfuse.sync import Worker


class Deleting:
    """*delete*: deletes what there is now (``Workspace.delete``); any thread may call it."""

    def __init__(self, delete: Callable[[], None]) -> None:
        self._delete: Final = delete
        self._lock: Final = threading.Lock()  # a leaf: flags only
        self._running = False  # guarded by: _lock
        self._wanted = False  # nobody has begun to delete what there is; guarded by: _lock
        self._worker: Worker | None = None  # confined to the owner

    def __repr__(self) -> str:
        return f"<Deleting {'at work' if self._running else 'idle'}>"

    def begin(self) -> None:
        """There is something to delete: it will be, soon."""
        with self._lock:
            self._wanted = True
            if self._running:
                return
            self._running = True
        self.close()  # the last one has ended, or is about to
        self._worker = Worker("spool-delete", self._run, stop=lambda: None)
        try:
            self._worker.start()
        except RuntimeError:  # no more threads here
            self._worker = None
            self._run()

    def close(self) -> None:
        """Wait until all is deleted. Harmless when repeated; it can begin again."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _run(self) -> None:
        try:
            while self._goes_on():
                self._delete()
        except BaseException:
            with self._lock:
                self._running = False
            raise

    def _goes_on(self) -> bool:
        with self._lock:
            self._running, self._wanted = self._wanted, False
            return self._running
