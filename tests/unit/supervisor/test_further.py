"""Further mounts as the supervisor makes them: who is told what, and what is left when something fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from arvfuse.errors import Busy, UsageError
from arvfuse.supervisor.control import Connection
from arvfuse.supervisor.further import FurtherMounts, Mounter


class FakeMounter:
    """Mounts are entries of a list. *refuse*: an error; *rootless*: unmounting is for the helper."""

    def __init__(self):
        self.mounted = []
        self.lazily = []
        self.refuse = None
        self.rootless = False
        self.says = "exit 0"

    def mount_further(self, mountpoint: Path, key: int) -> int:
        if self.refuse is not None:
            raise self.refuse
        self.mounted.append((mountpoint, key))
        return os.open(os.devnull, os.O_RDONLY)

    def unmount_further(self, mountpoint: Path, *, lazy: bool) -> None:
        if self.rootless:
            raise PermissionError
        if self.refuse is not None:
            raise self.refuse
        self.lazily.append((mountpoint, lazy))

    def start_unmount(self, *mountpoints: Path, lazy: bool) -> subprocess.Popen[str]:
        self.lazily.extend((mountpoint, lazy) for mountpoint in mountpoints)
        helper = subprocess.Popen(["sh", "-c", self.says], stderr=subprocess.PIPE, text=True)
        helper.wait(10)  # what it says fits into the pipe
        return helper


class Client:
    """A connection, and what it was answered."""

    def __init__(self):
        self.ours, theirs = socket.socketpair()
        self.connection = Connection(theirs)
        self.ours.setblocking(False)

    def said(self):
        try:
            return [json.loads(line) for line in self.ours.recv(65536).splitlines()]
        except BlockingIOError:
            return []

    def close(self):
        self.ours.close()
        self.connection.close()


class Case:
    def __init__(self):
        self.mounter: Mounter = FakeMounter()
        self.told = []
        self.further = FurtherMounts(self.mounter, self.tell)
        self.client = Client()

    def tell(self, message, *descriptors):
        for descriptor in descriptors:
            os.fstat(descriptor)  # it is open
        self.told.append((message["do"], message["key"], len(descriptors)))

    def mount(self, place="/mnt/one"):
        self.further.mount(self.client.connection, {"op": "mount", "mountpoint": place, "collection": "c"})

    def hear(self, told, key=1, **more):
        self.further.hear({"told": told, "key": key, **more})


@pytest.fixture
def case():
    made = Case()
    yield made
    made.further.close(10)
    made.client.close()


def test_the_engine_resolves_the_supervisor_mounts_and_the_client_is_answered_when_it_is_served(case):
    case.mount()
    assert case.told == [("further", 1, 0)]
    case.hear("resolved")
    assert case.mounter.mounted == [(Path("/mnt/one"), 1)]
    assert case.told[1:] == [("device", 1, 1)]
    assert case.client.said() == []
    case.hear("mounted")
    assert [answer["code"] for answer in case.client.said()] == [0]
    assert len(case.further) == 1
    case.hear("gone")  # somebody unmounted it
    assert len(case.further) == 0
    case.hear("gone")  # told twice
    assert repr(case.further) == "<FurtherMounts 0>"


def test_what_cannot_be_is_refused_and_nothing_is_left(case):
    case.mount("relative")
    assert case.client.said()[0]["error"]["class"] == UsageError.__name__
    case.mount()
    case.mount()
    assert case.client.said()[0]["error"]["class"] == Busy.__name__
    case.hear("failed", error={"class": "NoSuchRecord", "message": "c"})
    assert case.client.said()[0]["error"]["class"] == "NoSuchRecord"
    assert len(case.further) == 0
    case.mount()
    case.mounter.refuse = UsageError("no")
    case.hear("resolved", key=2)
    assert case.told[-1] == ("no_device", 2, 0)
    assert case.client.said()[0]["error"]["message"] == "no"
    assert len(case.further) == 0


@pytest.mark.parametrize("rootless", [False, True])
def test_what_was_mounted_and_cannot_be_served_is_detached(case, rootless):
    case.mount()
    case.hear("resolved")
    case.mounter.rootless = rootless
    case.hear("failed", error={"class": "ArvfuseError", "message": "no descriptor"})
    assert case.client.said()[0]["error"]["message"] == "no descriptor"
    assert case.mounter.lazily == [(Path("/mnt/one"), True)]
    assert len(case.further) == 0


def test_unmounting_answers_when_the_engine_says_that_it_is_gone(case):
    case.mount()
    case.hear("resolved")
    case.hear("mounted")
    case.client.said()
    case.further.unmount(case.client.connection, {"mountpoint": "/mnt/other"})
    assert case.client.said()[0]["error"]["class"] == "NoSuchEntry"
    case.further.unmount(case.client.connection, {"mountpoint": "/mnt/one"})
    assert case.mounter.lazily == [(Path("/mnt/one"), False)]
    assert case.client.said() == []
    case.hear("gone")
    assert case.client.said()[0]["code"] == 0


def test_a_busy_one_stays_whoever_tries(case):
    case.mount()
    case.hear("resolved")
    case.hear("mounted")
    case.client.said()
    case.mounter.refuse = Busy("in use")
    case.further.unmount(case.client.connection, {"mountpoint": "/mnt/one"})
    assert case.client.said()[0]["error"]["message"] == "in use"
    case.mounter.rootless, case.mounter.says = True, "echo target is busy >&2; exit 32"
    case.further.unmount(case.client.connection, {"mountpoint": "/mnt/one"})
    case.further.helpers_ended()
    assert "target is busy" in case.client.said()[0]["error"]["message"]
    assert len(case.further) == 1


def test_lazily_nobody_waits(case):
    case.mount()
    case.hear("resolved")
    case.hear("mounted")
    case.client.said()
    case.further.unmount(case.client.connection, {"mountpoint": "/mnt/one", "lazy": True})
    assert case.client.said()[0]["code"] == 0


@pytest.mark.parametrize("rootless", [False, True])
def test_at_the_end_all_are_detached(case, rootless):
    for place in ("/mnt/one", "/mnt/two"):
        case.mount(place)
    case.mounter.rootless = rootless
    case.further.detach_all()
    assert case.mounter.lazily == [(Path("/mnt/one"), True), (Path("/mnt/two"), True)]
