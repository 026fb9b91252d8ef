"""The committing thread: reads what it is told, commits what it is asked, and dies in the open."""

from __future__ import annotations

import threading

import pytest

from arvfuse.backend import mountdirs
from arvfuse.backend.committing import Committing
from arvfuse.backend.messages import Channel
from arvfuse.errors import StoreUnavailable
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.log import log_path
from arvfuse.sdk.workspace import Workspace
from tests.support.opened import memory_parts

PATIENCE_S = 20


class Living:
    """A mount with one collection, and the thread that commits for it."""

    def __init__(self, place):
        self.parts = memory_parts(place)
        self.directory = mountdirs.create(place)
        path, mount = self.directory.path, self.directory.mount
        self.workspace = Workspace(path, mount=mount, store=self.parts.store, clock=self.parts.clock)
        self.record = self.parts.catalog.create(name="one")
        self.tree = self.workspace.open_tree(self.record, Manifest(b""))
        self.engine, theirs = Channel.pair(path / "messages")
        self.theirs = theirs
        self.failed = threading.Event()
        self.committing = Committing(self.parts, path, mount, theirs, self.failed.set)

    def close(self):
        self.committing.close()
        self.workspace.close()
        self.engine.close()
        self.theirs.close()
        self.directory.unlock()


@pytest.fixture
def living(tmp_path):
    living = Living(tmp_path)
    yield living
    living.close()


def test_a_commit_saves_what_was_written_before_it(living):
    living.committing.start()
    living.tree.write(living.tree.create(living.tree.root, b"file"), 0, b"foo")
    trees, seq = living.workspace.commit_point([living.tree])
    (outcome,) = living.committing.commit([tree.no for tree in trees], seq).result(PATIENCE_S)
    assert outcome.error is None
    assert living.parts.catalog.get(living.record.uuid).pdh == outcome.pdh
    assert living.workspace.take([outcome]) == []
    assert not living.tree.dirty


def test_a_sealed_block_is_stored_as_soon_as_it_is_told(living):
    living.committing.start()
    file = living.tree.create(living.tree.root, b"file")
    living.tree.write(file, 0, b"x" * (2 << 20))
    _, seq = living.workspace.commit_point([living.tree])
    living.committing.tell(seq)
    received = living.engine.receive()
    assert received is not None
    assert received.message["event"] == "stored"
    living.workspace.stored(received.message["block"])
    living.committing.forget([received.message["block"]])
    assert "told" in repr(living.committing)


def test_what_waits_when_it_ends_is_refused(living):
    living.committing.start()
    living.committing.close()
    with pytest.raises(StoreUnavailable):
        living.committing.commit([1], 1).result(PATIENCE_S)
    assert living.committing.failure is None


def test_a_log_that_cannot_be_read_ends_the_thread_and_says_so(living):
    living.tree.create(living.tree.root, b"file")
    _, seq = living.workspace.commit_point([living.tree])
    path = log_path(living.directory.path, 1)
    path.write_bytes(b"no log of ours" + path.read_bytes())
    living.committing.start()
    living.committing.tell(seq)
    assert living.failed.wait(PATIENCE_S)
    assert living.committing.failure is not None
    with pytest.raises(StoreUnavailable):
        living.committing.commit([living.tree.no], seq).result(PATIENCE_S)
