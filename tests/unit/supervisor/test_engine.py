"""The engine's parts without a kernel: trees opened once, changes committed before their record changes."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future
from hashlib import md5
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from arvfuse.backend.messages import Channel, encode_error
from arvfuse.clock import SystemClock
from arvfuse.errors import NoSuchRecord, StoreUnavailable
from arvfuse.fresh.node import Space
from arvfuse.fusedir.host import Settings as DirectorySettings
from arvfuse.model.collections import MountId
from arvfuse.notify import Notifier
from arvfuse.sdk.closing import retire
from arvfuse.sdk.entries import NeedsIndex
from arvfuse.settings import Settings
from arvfuse.stores.memory import MemoryStore
from arvfuse.supervisor.directories import DirectoryReader
from arvfuse.supervisor.engine import (
    SWITCH_INTERVAL_S,
    Engine,
    EngineProcess,
    Mounting,
    RecordLink,
    StoreDurable,
    boot_id,
    default_spool_bytes,
)
from tests.support.engines import FakeEngine, RecordedKernel

PATIENCE_S = 20
FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n"


class FakeHousekeeper:
    """Commits are done when the test says so."""

    def __init__(self):
        self.asked = []

    def commit(self, trees, *, keep_previous=False):
        done = Future()
        self.asked.append(([tree.uuid for tree in trees], done))
        return done


class Made:
    """An Engine over the parts of a FakeEngine."""

    def __init__(self, place, *, read_write=True):
        self.parts = FakeEngine(place)
        self.keeper = FakeHousekeeper()
        self.engine = Engine(
            self.parts.workspace,
            self.parts.link,
            self.keeper,
            self.parts.store,
            self.parts.reader,
            read_write=read_write,
        )


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path)
    yield made
    made.parts.close()


def test_a_collection_is_opened_once_however_many_ask(made):
    record = made.parts.new_collection("one", FOO)
    made.parts.link.hold = True
    first, second = made.engine.open_collection(record.uuid), made.engine.open_collection(record.uuid)
    assert first is second
    assert made.engine.opened(record.uuid) is None
    made.parts.link.answer_next()
    live = first.result(0)
    assert made.engine.opened(record.uuid) is live
    again = made.engine.open_collection(record.uuid)
    assert again.result(0) is live
    assert again is not first, "who waited for the first is not remembered"
    assert [name for name, _ in live.entries(live.root)] == [b"foo"]
    assert live.writable
    assert made.parts.link.ops() == ["open"]


@pytest.mark.parametrize("told", [True, False], ids=["told", "before it is told"])
def test_a_tree_that_was_closed_is_opened_again(made, told):
    record = made.parts.new_collection("one", FOO)
    first = made.engine.open_collection(record.uuid).result(0)
    other = made.engine.open_collection(record.pdh).result(0)
    assert retire(first)
    if told:
        made.engine.forget(first)
        assert made.engine.opened(record.uuid) is None
    second = made.engine.open_collection(record.uuid).result(0)
    assert second is not first
    made.engine.forget(first)  # which is not that of now
    assert made.engine.opened(record.uuid) is second
    assert made.engine.open_collection(record.pdh).result(0) is other


def test_content_by_its_hash_never_changes(made):
    record = made.parts.new_collection("one", FOO)
    by_hash = made.engine.open_collection(record.pdh).result(0)
    assert not by_hash.writable
    assert by_hash is not made.engine.open_collection(record.uuid).result(0)


class Provider:
    """A link to a backend that is asked for texts; what it does is done in another process, as it were."""

    def __init__(self, link):
        self.link = link
        self.asked = []
        self.at_work = False

    def request(self, op, **args):
        self.asked.append((op, args))
        if op == "provide":
            done = Future()
            done.set_result({})
            return done
        self.at_work = True
        try:
            return self.link.request(op, **args)
        finally:
            self.at_work = False


def test_content_without_a_record_is_read_by_the_backend(tmp_path, monkeypatch):
    """The engine looks neither for its lines nor for its names, and does not hash it."""
    text = b". acbd18db4cc2f85cedef654fccc4a4d8+3 " + b" ".join(b"0:3:%06d" % n for n in range(30_000)) + b"\n"
    file = tmp_path / "content"
    file.write_bytes(text)
    parts = FakeEngine(tmp_path / "mount")
    link = Provider(parts.link)

    def only_there(real):
        def call(*args, **kwargs):
            assert link.at_work, f"{real.__name__} in the engine"
            return real(*args, **kwargs)

        return call

    for where, name in (("manifests", "scan"), ("manifests", "build_index"), ("normalizing", "md5")):
        place = f"arvfuse.model.{where}.{name}"
        monkeypatch.setattr(place, only_there(attrgetter(name)(import_module(f"arvfuse.model.{where}"))))
    engine = Engine(
        parts.workspace, link, FakeHousekeeper(), parts.store, DirectoryReader(link, PATIENCE_S), read_write=True
    )
    live = engine.open_content(file, PATIENCE_S)
    assert live.writable
    assert [op for op, _ in link.asked] == ["content", "provide"]
    assert link.asked[1][1] == {"tree": live.no, "file": str(file)}
    assert live.pdh == f"{md5(text).hexdigest()}+{len(text)}"
    with pytest.raises(NeedsIndex):
        live.names(live.root)
    engine.read_directory(live.root).result(PATIENCE_S)
    assert live.lookup(live.root, b"029999").size == 3
    parts.close()


def test_a_read_only_mount_opens_read_only(tmp_path):
    made = Made(tmp_path, read_write=False)
    record = made.parts.new_collection("one")
    assert not made.engine.open_collection(record.uuid).result(0).writable
    made.parts.close()


def test_a_failure_is_not_remembered(made):
    record = made.parts.new_collection("one")
    made.parts.link.down = True
    with pytest.raises(StoreUnavailable):
        made.engine.open_collection(record.uuid).result(0)
    made.parts.link.down = False
    assert made.engine.open_collection(record.uuid).result(0).uuid == record.uuid
    with pytest.raises(NoSuchRecord):
        made.engine.open_collection("zzzzz-4zz18-000000000000000").result(0)


def test_pending_changes_are_committed_before_their_record_changes(made):
    link = made.engine.link
    assert isinstance(link, RecordLink)
    record = made.parts.new_collection("one")
    live = made.engine.open_collection(record.uuid).result(0)
    made.parts.link.ops()
    live.create(live.root, b"file")
    renamed = link.request("rename", uuid=record.uuid, owner=record.owner, name="two")
    assert made.parts.link.ops() == []
    ((trees, done),) = made.keeper.asked
    assert trees == [record.uuid]
    done.set_exception(StoreUnavailable("away"))
    assert renamed.result(PATIENCE_S)["entry"]["name"] == "two"
    assert link.request("find", owner=record.owner, name="two").result(0)["entry"] is not None


def test_room_is_the_stores(made):
    total, free = made.parts.store.free_bytes()
    assert made.engine.statfs() == Space(total, free)


def test_with_store_durability_fsync_commits(tmp_path):
    parts = FakeEngine(tmp_path)
    notices = Notifier(RecordedKernel(), name="test")
    operations = StoreDurable(parts, notices, parts.clock, settings=DirectorySettings(read_only=False))
    made = operations.mkdir(operations.lookup(1, b"home").attr.no, b"one", 0o777)
    created = operations.create(made.attr.no, b"file", 0o644, os.O_WRONLY)
    operations.write(created.opened.handle, 0, b"foo")
    done = operations.fsync(created.opened.handle)
    assert done.result(0) is None if isinstance(done, Future) else done is None
    assert len(parts.commits) == 1
    handle = operations.opendir(made.attr.no)
    operations.fsyncdir(handle)
    assert len(parts.commits) == 2
    operations.release(created.opened.handle)
    assert notices.close(PATIENCE_S)
    parts.close()


class Asked:
    """An EngineProcess in a thread, and the supervisor's and backend's ends of its sockets."""

    def __init__(self, place, root=None):
        self.interval = sys.getswitchinterval()
        self.place = place
        self.supervisor, theirs = Channel.pair(place)
        mounting = Mounting(mount=MountId("m"), directory=place, mountpoint=Path("/nonexistent"), root=root)
        settings = Settings(store=place, read_write=True)
        self.process = EngineProcess(mounting, settings, MemoryStore(), SystemClock(), theirs)
        self.theirs = theirs
        self.code = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.code = self.process.run()

    def end(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.supervisor.close()
        self.theirs.close()
        sys.setswitchinterval(self.interval)
        return self.code


def test_an_engine_whose_supervisor_is_gone_before_it_mounts_ends(tmp_path):
    asked = Asked(tmp_path)
    asked.supervisor.shut()
    assert asked.end() == 1
    assert asked.interval > SWITCH_INTERVAL_S


def test_an_engine_says_how_it_is(tmp_path):
    asked = Asked(tmp_path)
    asked.supervisor.send({"do": "status"})
    status = asked.supervisor.receive().message["status"]
    assert (status["pending"], status["spool_bytes"]) == ([], 0)
    asked.supervisor.send({"do": "abandon"})
    assert asked.end() == 1


def test_a_root_that_is_not_there_is_told_before_anything_is_mounted(tmp_path):
    asked = Asked(tmp_path, root="home/nothing")
    ours, backend = Channel.pair(tmp_path)
    asked.supervisor.send({"do": "link"}, descriptors=[ours.fileno()])
    asked.supervisor.send({"do": "serve"})
    question = backend.receive().message
    assert (question["op"], question["args"]) == ("resolve", {"id": "home/nothing"})
    backend.send({"id": question["id"], "error": encode_error(NoSuchRecord("home/nothing: no such collection"))})
    told = asked.supervisor.receive().message
    assert told["told"] == "failed"
    assert told["error"]["class"] == "NoSuchRecord"
    assert asked.end() == 1
    ours.close()
    backend.close()


def test_a_spool_takes_a_tenth_of_what_is_free():
    class Room:
        def __init__(self, free):
            self.free = free

        def free_bytes(self):
            return 1 << 50, self.free

    assert default_spool_bytes(Room(40 << 30)) == 4 << 30
    assert default_spool_bytes(Room(1 << 45)) == 8 << 30
    assert default_spool_bytes(Room(1 << 20)) == 128 << 20


def test_a_boot_has_an_identity():
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()
