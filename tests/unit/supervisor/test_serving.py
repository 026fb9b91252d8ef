"""The mounts of one engine: what is told to each, and how further ones begin and end."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from arvfuse.clock import SystemClock
from arvfuse.drivers.kernel.driver import KernelDriver
from arvfuse.drivers.kernel.latency import Latency, Mode
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.errors import NoSuchRecord
from arvfuse.notify import Notifier
from arvfuse.settings import Settings
from arvfuse.supervisor.serving import SPARE_DESCRIPTORS, FurtherMounts, Served, ServedMounts
from tests.support.engines import FakeEngine, RecordedKernel


class Shown:
    """The operations of a mount, as the housekeeper sees them."""

    def __init__(self, knows=()):
        self.told = []
        self.known = set(knows)
        self.done = True

    def name_changed(self, directory, name):
        self.told.append((directory, name))

    def record_changed(self, change):
        self.told.append(change)

    def expire(self):
        return self.done

    def knows(self, number):
        return number in self.known

    def trees_in_use(self):
        return self.known

    def tree_closed(self, live):
        self.told.append(live)


def test_all_mounts_are_told_and_any_of_them_may_know():
    mounts, closed, ticks = ServedMounts(), [], []
    one, two = Shown({1}), Shown({2})
    for key, shown in enumerate((one, two)):
        notifier = Notifier(RecordedKernel(), name=str(key))
        mounts.add(key, Served(shown, notifier, lambda k=key: ticks.append(k), lambda k=key: closed.append(k)))
    mounts.name_changed("directory", b"name")
    mounts.record_changed("change")
    assert one.told == two.told == [("directory", b"name"), "change"]
    assert [mounts.knows(number) for number in (1, 2, 3)] == [True, True, False]
    assert mounts.trees_in_use() == {1, 2}
    mounts.tree_closed("tree")
    assert one.told.pop() == two.told.pop() == "tree"
    assert mounts.expire()
    assert ticks == [0, 1]
    one.done = False
    assert not mounts.expire()
    mounts.end(0)
    mounts.end(0)
    assert (len(mounts), closed) == (1, [0])
    assert not mounts.knows(1)
    mounts.end(1)


class Case:
    """Further mounts over a fake engine; the driver serves nothing, as nothing is mounted."""

    def __init__(self, directory, *, read_write=False):
        self.engine = FakeEngine(directory / "engine")
        self.told = []
        self.served = ServedMounts()
        settings = Settings(store=directory, read_write=read_write)
        self.further = FurtherMounts(self.served, self.engine, SystemClock(), settings, self.told.append)
        self.driver = KernelDriver(os.open(os.devnull, os.O_RDONLY), Wanted(), Latency(Mode.SLEEP))

    def close(self):
        self.engine.close()


@pytest.fixture
def case(tmp_path):
    made = Case(tmp_path)
    yield made
    made.close()


def test_what_is_to_be_mounted_is_resolved_before_it_is_mounted(case):
    record = case.engine.new_collection("c1")
    case.further.resolve(1, None)
    assert case.told.pop()["error"]["class"] == "NotSupported"  # there is no driver that could
    case.further.use(case.driver)
    case.further.resolve(1, None)
    case.further.resolve(2, record.uuid)
    assert case.told == [{"told": "resolved", "key": 1}, {"told": "resolved", "key": 2}]
    case.further.resolve(3, "zzzzz-4zz18-000000000000000")
    assert case.told[-1]["error"]["class"] == NoSuchRecord.__name__
    case.further.cancel(2)
    reader, writer = os.pipe()
    os.close(writer)
    case.further.start(2, reader)  # it was cancelled: nobody serves it
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    assert len(case.served) == 0


def test_it_is_answered_from_then_on_and_forgotten_when_it_is_gone(case):
    ended = []
    session = SimpleNamespace(close=lambda: None, fail_stalled=lambda bound: None)

    class Driver(KernelDriver):
        def add(self, device, operations, wanted, *, on_end):
            os.close(device)
            ended.append(on_end)
            assert operations.read_only
            return session

    case.further.use(Driver(os.open(os.devnull, os.O_RDONLY), Wanted(), Latency(Mode.SLEEP)))
    case.further.resolve(1, None)
    device, writer = os.pipe()
    held = os.fstat(device).st_ino
    case.further.start(1, device)
    assert case.told == [{"told": "resolved", "key": 1}, {"told": "mounted", "key": 1}]
    assert len(case.served) == 1
    descriptors = (entry for entry in Path("/proc/self/fd").iterdir() if entry.exists())
    assert [entry.name for entry in descriptors if entry.stat().st_ino == held] == [str(writer)], "one for each mount"
    os.close(writer)
    case.served.expire()
    ended[0]()
    assert case.told[-1] == {"told": "gone", "key": 1}
    assert len(case.served) == 0


def test_a_mount_for_which_there_is_no_descriptor_fails_and_nothing_else_does(case, monkeypatch):
    """One descriptor for each; some are left for all else."""
    case.further.use(case.driver)
    case.further.resolve(1, None)
    case.further.start(1, None)  # it did not come through
    assert case.told[-1]["told"] == "failed"
    assert "descriptor" in case.told[-1]["error"]["message"]
    case.further.resolve(2, None)
    device = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr("resource.getrlimit", lambda which: (device + SPARE_DESCRIPTORS, 1 << 20))
    case.further.start(2, device)
    assert case.told[-1]["told"] == "failed"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(device)
    assert len(case.served) == 0


def test_beside_a_read_write_mount_there_are_none(tmp_path):
    case = Case(tmp_path, read_write=True)
    try:
        case.further.use(case.driver)
        case.further.resolve(1, None)
        assert "read-only" in case.told[0]["error"]["message"]
    finally:
        case.close()
