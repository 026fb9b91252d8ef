"""After lost notices: everything that the kernel knows is expired, in steps that leave room in the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.fusedir.expiry import Expiry
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from tests.support.engines import Mounted, RecordedKernel, now

PATIENCE_S = 10


class Kernel(RecordedKernel):
    """Keeps notices while *open* is clear."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        assert self.open.wait(PATIENCE_S)
        super().invalidate_entry(parent, name)


class Small(Mounted):
    """A mount whose queue takes ten notices."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        assert self.notices.close(PATIENCE_S)
        self.keeper = Kernel()
        self.notices = Notifier(self.keeper, capacity=10)
        self.ops = Operations(
            self.engine, self.notices, self.engine.clock, settings=self.ops.host.settings._replace(keep_s=60.0)
        )

    def lose(self) -> None:
        """Fill the queue until a notice is lost."""
        self.keeper.open.clear()
        while self.notices.entry(1, b"%d" % self.notices.room):
            pass
        self.keeper.open.set()
        assert self.notices.wait_idle(PATIENCE_S)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path)
    yield made
    made.close()


def test_nothing_is_done_while_nothing_is_lost(small: Small) -> None:
    assert Expiry(small.ops.host).step()
    assert small.ops.expire()
    assert small.keeper.entries == []


def test_all_that_the_kernel_knows_is_expired_and_timeouts_are_0_until_then(small: Small) -> None:
    now(small.ops.mkdir(small.walk(b"home"), b"c", 0o755))
    top = small.walk(b"home", b"c")
    for number in range(30):
        small.write_file(top, b"f%d" % number, b"")
    directory = now(small.ops.mkdir(top, b"d", 0o755)).attr.no
    small.write_file(directory, b"below", b"")
    uuid = next(iter(small.engine.open)).encode()
    by_id = small.walk(b"by_id", uuid)
    small.walk(b"by_id", uuid, b"d")
    assert small.ops.lookup(top, b"f1").timeout_s == 60  # type: ignore[union-attr]
    small.lose()
    entry = small.ops.lookup(top, b"f1")
    assert entry.timeout_s == entry.attr.timeout_s == 0  # type: ignore[union-attr]
    small.keeper.entries.clear()
    steps, done = 0, False
    while not done:
        small.keeper.open.clear()  # the kernel is slow: what is queued in a step stays queued
        done = small.ops.expire()
        steps += 1
        assert small.notices.room > 0
        small.keeper.open.set()
        assert small.notices.wait_idle(PATIENCE_S)
    assert steps > 5
    assert small.notices.wait_idle(PATIENCE_S)
    told = set(small.keeper.entries)
    assert {(top, b"f%d" % number) for number in range(30)} <= told
    assert {(by_id, b"d"), (directory, b"below"), (small.walk(b"home"), b"c"), (small.walk(b"by_id"), uuid)} <= told
    assert small.ops.lookup(top, b"f1").timeout_s == 60  # type: ignore[union-attr]


def test_a_loss_during_the_walk_starts_it_again(small: Small) -> None:
    now(small.ops.mkdir(small.walk(b"home"), b"c", 0o755))
    small.lose()
    expiry = Expiry(small.ops.host)
    small.keeper.open.clear()
    while small.notices.entry(99, b"%d" % small.notices.room):
        pass
    assert not expiry.step()
    small.keeper.open.set()
    while not expiry.step():
        assert small.notices.wait_idle(PATIENCE_S)
    assert not small.notices.distrusted
