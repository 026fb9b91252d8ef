"""Telling the kernel what it must forget, without ever making a request wait for it.

Why a queue: a notice about a name takes the kernel's lock of that directory, and waits while a request in the
directory is being answered. If a request could in turn wait for room in the queue, both would wait for ever. So:
producers never block, whatever the queue's state; notices of one (node, name) are sent once; the sender is a thread
that answers no request, holds no lock of ours while the kernel makes it wait, and lives only while there is
something to send.

A full queue drops the notice and moves ``generation``: the kernel may now hold what it should not, so whoever hands
out timeouts asks ``distrusted`` and gives 0, and whoever keeps house expires what the kernel knows, bit by bit, and
then calls ``settle``. Nothing is called back.

Threading: any thread may call anything, also while holding locks of lower rank. Failure: a notice that the kernel
refuses is gone (it did not know the node); the port's methods do not raise.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import Final

from arvfuse.ports import KernelNotices

log = logging.getLogger(__name__)

CAPACITY: Final = 65_536
_Key = tuple[int, bytes | None]  # name None: the node itself


class Notifier:
    """The invalidation queue of one mount.

    Invariants: at most one sender; a sender exists or the queue is empty (or no thread could be started: the next
    notice tries again); len(queue) <= capacity.
    """

    def __init__(self, kernel: KernelNotices, *, name: str = "mount", capacity: int = CAPACITY) -> None:
        self._kernel: Final = kernel
        self._thread_name: Final = f"arvfuse-notify-{name}"
        self._capacity: Final = capacity

        self._changed: Final = threading.Condition(threading.Lock())
        self._queue: OrderedDict[_Key, bool] = OrderedDict()  # guarded by: _changed; value: attributes only
        self._sender: threading.Thread | None = None  # guarded by: _changed
        self._closed = False  # guarded by: _changed
        self._generation = 0  # guarded by: _changed
        self._settled = 0  # guarded by: _changed
        self._sent = 0  # guarded by: _changed

    def __repr__(self) -> str:
        with self._changed:
            state = "closed" if self._closed else "sending" if self._sender else "idle"
            return f"<Notifier {state} pending={len(self._queue)} sent={self._sent} generation={self._generation}>"

    @property
    def generation(self) -> int:
        """Moves with every notice that was lost."""
        return self._generation

    @property
    def distrusted(self) -> bool:
        """True from a lost notice until somebody has expired what the kernel knows: hand out timeouts of 0."""
        return self._generation != self._settled

    @property
    def pending(self) -> int:
        """Notices that wait to be sent."""
        return len(self._queue)

    @property
    def capacity(self) -> int:
        """How many notices can wait at a time."""
        return self._capacity

    @property
    def room(self) -> int:
        """How many more notices the queue takes."""
        return self._capacity - len(self._queue)

    def entry(self, parent: int, name: bytes) -> bool:
        """*name* in directory *parent* is not what it was. False: lost, or closed."""
        return self._put((parent, name), False)

    def node(self, number: int, *, attributes_only: bool = False) -> bool:
        """Attributes of the node, and its pages unless *attributes_only*, are not what they were."""
        return self._put((number, None), attributes_only)

    def settle(self, generation: int) -> None:
        """All that the kernel knew when the generation was *generation* has been expired."""
        with self._changed:
            if self._generation == generation:
                self._settled = generation

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until everything is sent; False at the timeout. Never called from a request."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and self._sender is None, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Drop what is pending, take no more, and wait for the sender: as long as the kernel keeps its one notice.

        False: the kernel still keeps it after *timeout_s*; the thread ends with the connection. May be called again.
        """
        with self._changed:
            self._closed = True
            self._queue.clear()
            sender = self._sender
            if not self._changed.wait_for(lambda: self._sender is None, timeout_s):
                return False
        if sender is not None:
            sender.join()  # it has left our lock for the last time
        return True

    def check_invariants(self) -> None:
        with self._changed:
            assert len(self._queue) <= self._capacity
            assert self._settled <= self._generation
            assert not (self._closed and self._queue)

    def _put(self, key: _Key, attributes_only: bool) -> bool:
        with self._changed:
            if self._closed:
                return False
            known = self._queue.get(key)
            if known is None and len(self._queue) >= self._capacity:
                self._generation += 1
                return False
            self._queue[key] = attributes_only if known is None else known and attributes_only
            if self._sender is not None:
                return True
            sender = self._sender = threading.Thread(target=self._send_all, name=self._thread_name)
        # Outside the lock: start() waits for the thread to run.
        try:
            sender.start()
        except RuntimeError as failure:  # no more threads: the queue keeps the notice, the next one tries again
            log.warning("no thread for kernel notices: %s", failure)
            with self._changed:
                self._sender = None
                self._changed.notify_all()
        return True

    def _send_all(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._sender = None
                    self._changed.notify_all()
                    return
                (number, name), attributes_only = self._queue.popitem(last=False)
            try:
                if name is None:
                    self._kernel.invalidate_inode(number, attributes_only=attributes_only)
                else:
                    self._kernel.invalidate_entry(number, name)
            except Exception:  # top of a thread: one bad notice must not end the notices of a mount
                log.exception("kernel notice for node %d failed", number)
            with self._changed:
                self._sent += 1
