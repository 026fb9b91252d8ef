"""The deadlock of a full notice queue, with its negative control (promise B2).

The kernel keeps a directory's lock while a request in the directory is being answered; a notice about a name in it
waits for that lock. A request handler that waits for room in the queue then waits for ever: the queue's head waits
for the request. The control shows that the test's kernel has that deadlock; our queue has not.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from arvfuse.notify import Notifier

WATCHDOG_S = 0.5  # how long the watchdog waits before it calls a request hung; ours needs a millisecond
PATIENCE_S = 20
BURST = 2_000


class Queue(Protocol):
    """What a request handler uses."""

    def entry(self, parent: int, name: bytes) -> bool: ...


class Kernel:
    """One directory: its lock is held while a request in it is answered, and taken by each notice about it."""

    def __init__(self) -> None:
        self.directory = threading.Lock()
        self.ended = threading.Event()  # the connection: everything that waits returns
        self.waiting = threading.Event()
        self.told = 0

    def request(self, handler: Callable[[], None]) -> None:
        with self.directory:
            handler()

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.waiting.set()
        while not self.ended.is_set():
            if self.directory.acquire(timeout=0.01):
                self.directory.release()
                break
        self.told += 1

    def invalidate_inode(self, node: int, *, attributes_only: bool = False) -> None: ...


class BlockingNotifier:
    """The wrong one: a producer waits for room."""

    def __init__(self, kernel: Kernel, capacity: int) -> None:
        self._kernel = kernel
        self._queue: queue.Queue[tuple[int, bytes] | None] = queue.Queue(capacity)
        self._sender = threading.Thread(target=self._send, name="blocking-notifier")
        self._sender.start()

    def entry(self, parent: int, name: bytes) -> bool:
        self._queue.put((parent, name))
        return True

    def close(self) -> None:
        self._queue.put(None)
        self._sender.join()

    def _send(self) -> None:
        while (notice := self._queue.get()) is not None:
            self._kernel.invalidate_entry(*notice)


def answered(kernel: Kernel, notices: Queue) -> bool:
    """Does a request end that makes more notices about its own directory than fit? The watchdog looks once."""
    done = threading.Event()

    def handler() -> None:
        notices.entry(1, b"head")
        assert kernel.waiting.wait(PATIENCE_S), "the head of the queue waits for our directory"
        for number in range(BURST):
            notices.entry(1, b"%d" % number)

    def serve() -> None:
        kernel.request(handler)
        done.set()

    worker = threading.Thread(target=serve, name="request")
    worker.start()
    in_time = done.wait(WATCHDOG_S)
    if not in_time:
        kernel.ended.set()  # the only way out: end the connection
    worker.join()
    return in_time


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.ended.set()


def test_control_a_queue_that_blocks_its_producer_hangs(kernel: Kernel) -> None:
    notices = BlockingNotifier(kernel, capacity=100)
    assert not answered(kernel, notices), "the watchdog must see this one hang"
    notices.close()


def test_ours_never_makes_the_request_wait(kernel: Kernel) -> None:
    notices = Notifier(kernel, capacity=100)
    assert answered(kernel, notices)
    assert notices.distrusted, "what did not fit is known to be lost"
    assert notices.wait_idle(PATIENCE_S)
    assert kernel.told == 101
    assert notices.close(PATIENCE_S)


def test_an_unmount_with_2000_notices_pending_ends(kernel: Kernel) -> None:
    notices = Notifier(kernel)
    with kernel.directory:  # a request that will not be answered before the connection ends
        for number in range(BURST):
            assert notices.entry(1, b"%d" % number)
        assert kernel.waiting.wait(PATIENCE_S)
        assert notices.pending == BURST - 1
        assert not notices.close(0.01)
        kernel.ended.set()
        assert notices.close(PATIENCE_S)
    assert kernel.told == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("arvfuse-notify")]
