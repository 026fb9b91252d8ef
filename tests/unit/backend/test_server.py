"""The backend, with its threads, as the engine and the supervisor see it through their sockets."""

from __future__ import annotations

import os
import threading

import pytest

from arvfuse.backend import mountdirs
from arvfuse.backend.link import BackendLink
from arvfuse.backend.messages import Channel
from arvfuse.backend.recovery import Recovered
from arvfuse.backend.server import DRAINING_WAIT_S, Backend, Serving, encode_recovered
from arvfuse.clock import SystemClock
from arvfuse.errors import NoSuchRecord
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.workspace import Workspace
from tests.support.opened import leave_changes, memory_parts
from tests.support.programs import eventually

PATIENCE_S = 20


class Running:
    """A backend in a thread, a link to it, and the supervisor's end."""

    def __init__(self, parts, *, read_write=True):
        self.parts = parts
        self.directory = mountdirs.create(parts.directory)
        ours, theirs = Channel.pair(self.directory.path / "messages")
        self.supervisor, supervised = Channel.pair(self.directory.path / "messages")
        serving = Serving(mount=self.directory.mount, directory=self.directory.path, read_write=read_write)
        backend = Backend(parts, serving, theirs, supervised)
        self.code = None
        self.channels = (theirs, supervised)
        self.link = BackendLink(ours)
        self.link.start()
        self.thread = threading.Thread(target=self.run, args=(backend,))
        self.thread.start()

    def run(self, backend):
        self.code = backend.run()
        for channel in self.channels:
            channel.close()

    def told(self):
        received = self.supervisor.receive()
        assert received is not None
        return received.message

    def close(self):
        self.supervisor.close()
        self.link.close()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.directory.unlock()


@pytest.fixture
def run(tmp_path):
    started = []

    def start(**options):
        started.append(Running(options.pop("parts", None) or memory_parts(tmp_path), **options))
        return started[-1]

    yield start
    for running in started:
        running.close()


def test_it_looks_up_and_commits(run):
    running = run()
    assert running.told()["told"] == "recovered"
    home = running.link.request("home").result(PATIENCE_S)["entry"]
    made = running.link.request("mkdir", owner=home["uuid"], name="one").result(PATIENCE_S)["entry"]
    with pytest.raises(NoSuchRecord):
        running.link.request("record", uuid="zzzzz-4zz18-000000000000000").result(PATIENCE_S)
    path, mount = running.directory.path, running.directory.mount
    workspace = Workspace(path, mount=mount, store=running.parts.store, clock=running.parts.clock)
    tree = workspace.open_tree(running.parts.catalog.get(made["uuid"]), Manifest(b""))
    tree.write(tree.create(tree.root, b"file"), 0, b"foo")
    trees, seq = workspace.commit_point([tree])
    running.link.tell(seq)
    reply = running.link.request("commit", trees=[each.no for each in trees], seq=seq).result(PATIENCE_S)
    assert [outcome["error"] for outcome in reply["outcomes"]] == [None]
    assert running.parts.catalog.get(made["uuid"]).version == 2
    assert running.link.request("barrier").result(PATIENCE_S) == {}
    blocks = [running.parts.store.put(data) for data in (b"foo", b"bar")]
    repacked = running.link.request("repack", files=[[(3, block, 0) for block in blocks]]).result(PATIENCE_S)
    assert [[length for length, _, _ in parts] for parts in repacked["files"]] == [[6]]
    assert "recovering" in running.link.request("status").result(PATIENCE_S)
    workspace.close()


def test_changes_from_elsewhere_are_events(run, tmp_path):
    running = run(parts=memory_parts(tmp_path, SystemClock()))
    assert running.told()["told"] == "recovered"
    running.parts.catalog.create(name="made elsewhere")
    event = running.link.next_event(PATIENCE_S)
    assert event is not None
    assert event["changes"][0]["event"] == "create"


def test_a_read_write_backend_recovers_the_dead_first(run, tmp_path):
    parts = memory_parts(tmp_path)
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    dead.unlock()
    told = run(parts=parts).told()
    assert told == {"told": "recovered", "waiting": [], "draining": [], "results": [
        {"mount": dead.mount, "committed": [record.uuid], "quarantined": [], "left": []}
    ]}  # fmt: skip


@pytest.mark.parametrize("read_write", [True, False])
def test_a_read_write_backend_removes_old_indexes(run, tmp_path, read_write):
    parts = memory_parts(tmp_path)
    manifests = parts.directory / "manifests"
    (manifests / "tmp").mkdir(parents=True)
    (manifests / "abc").mkdir()
    killed = manifests / "abc" / f"{'abc':0<32}+7.lines.01234567.new"
    killed.touch()
    os.utime(killed, ns=(0, 0))
    running = run(parts=parts, read_write=read_write)
    running.told()
    if read_write:
        eventually(lambda: not killed.exists())
    running.supervisor.send({"do": "end"})
    running.thread.join(PATIENCE_S)
    assert killed.exists() != read_write


def test_a_read_only_backend_says_what_waits_and_touches_nothing(run, tmp_path):
    parts = memory_parts(tmp_path)
    dead = leave_changes(parts, parts.catalog.create(name="one"), b"file", b"foo")
    dead.unlock()
    assert run(parts=parts, read_write=False).told()["waiting"] == [dead.mount]
    assert mountdirs.has_changes(dead.path)


def test_it_commits_the_log_of_a_dead_engine_when_told_to_finish(run):
    running = run()
    running.told()
    path, mount = running.directory.path, running.directory.mount
    workspace = Workspace(path, mount=mount, store=running.parts.store, clock=running.parts.clock)
    record = running.parts.catalog.create(name="one")
    tree = workspace.open_tree(record, Manifest(b""))
    tree.write(tree.create(tree.root, b"file"), 0, b"foo")
    workspace.close()
    running.supervisor.send({"do": "finish"})
    assert running.told()["result"]["committed"] == [record.uuid]
    running.thread.join(PATIENCE_S)
    assert running.code == 0


def test_it_ends_when_told(run):
    running = run()
    running.told()
    running.supervisor.send({"do": "status"})
    assert running.told()["told"] == "status"
    running.supervisor.send({"do": "end"})
    running.thread.join(PATIENCE_S)
    assert running.code == 0


def test_a_recovery_as_a_value():
    result = Recovered(mount=MountId("m"), committed=("a",), left=("b: c",))
    assert encode_recovered(result) == {"mount": "m", "committed": ["a"], "quarantined": [], "left": ["b: c"]}
    assert DRAINING_WAIT_S == 10
