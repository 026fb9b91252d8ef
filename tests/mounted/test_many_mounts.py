"""Many mounts of one engine: each shows what it is to show, ends by itself, and delays no other."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import arvfuse.session
from arvfuse import Mount
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, NoSuchRecord, NotADirectory, NotSupported
from arvfuse.supervisor import control
from tests.support import mounts

pytestmark = pytest.mark.mounted

COLLECTIONS = 10
PATIENCE_S = 30


class Many:
    """A read-only mount of a store with some collections, and places for further ones."""

    def __init__(self, top: Path, stack: ExitStack, *, places: int) -> None:
        self.store = top / "store"
        self.hashes: list[str] = []
        with arvfuse.session.open(self.store) as session:
            for number in range(COLLECTIONS):
                collection = session.new()
                with collection.open("which", "w") as file:
                    file.write(f"{number}\n")
                collection.save_new(name=f"c{number}")
                self.hashes.append(str(collection.portable_data_hash()))
        self.places = [top / f"m{number}" for number in range(places)]
        for place in self.places:
            place.mkdir()
        self.mount = Mount(store=self.store, options={"driver": "kernel"})
        stack.callback(self.sweep)
        stack.enter_context(self.mount)

    def add(self, number: int) -> None:
        mounts.record(self.places[number])
        self.mount.add(self.places[number], collection=self.hashes[number % COLLECTIONS])

    def content(self, number: int) -> str:
        return (self.places[number] / "which").read_text()

    def process(self, name: str) -> int:
        """The id of one of the mount's processes."""
        (directory,) = (self.store / "mounts").iterdir()
        answer = control.ask(directory, {"op": "status"}, timeout_s=PATIENCE_S)
        return int(answer["processes"][name])

    def sweep(self) -> None:
        left = {row.mountpoint for row in mounts.mount_table()}
        for place in self.places:
            if str(place) in left:
                mounts.detach(place)
            mounts.forget(place)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def show_each(many: Many, count: int) -> None:
    """Add, read and end *count* mounts, some by remove() and one by umount(8)."""
    before = {row.mountpoint for row in mounts.mount_table()}
    for number in range(count):
        many.add(number)
    for number in range(count):
        assert many.content(number) == f"{number % COLLECTIONS}\n"
    subprocess.run(["umount", str(many.places[1])], check=True, timeout=PATIENCE_S)
    for number in range(0, count, 10):
        many.mount.remove(many.places[number])
    assert os.listdir(many.places[0]) == os.listdir(many.places[1]) == []
    many.add(0)
    assert many.content(0) == "0\n"
    many.mount.close()
    assert {row.mountpoint for row in mounts.mount_table()} <= before


def test_a_thousand_mounts_are_answered_by_one_engine(tmp_path: Path, stack: ExitStack) -> None:
    show_each(Many(tmp_path, stack, places=1000), 1000)


@pytest.mark.stress
def test_ten_thousand_mounts_are_answered_by_one_engine(tmp_path: Path, stack: ExitStack) -> None:
    show_each(Many(tmp_path, stack, places=10_000), 10_000)


def test_a_mount_that_waits_delays_no_other(tmp_path: Path, stack: ExitStack) -> None:
    """A look-up that the backend does not answer, for as long as this takes; others are read meanwhile."""
    many = Many(tmp_path, stack, places=3)
    many.add(0)
    assert many.content(0) == "0\n"
    many.mount.add(many.places[2])
    backend = many.process("backend")
    os.kill(backend, signal.SIGSTOP)
    found: list[str] = []
    waiting = many.places[2] / "by_id" / many.hashes[5] / "which"
    waiter = threading.Thread(target=lambda: found.append(waiting.read_text()))
    try:
        waiter.start()
        for _ in range(100):
            assert many.content(0) == "0\n"
            (many.places[0] / f"missing{time.monotonic_ns()}").exists()
        assert found == []
    finally:
        os.kill(backend, signal.SIGCONT)
        waiter.join(PATIENCE_S)
    assert found == ["5\n"]


def test_a_change_from_elsewhere_shows_in_every_mount(tmp_path: Path, stack: ExitStack) -> None:
    many = Many(tmp_path, stack, places=20)
    for place in many.places:
        mounts.record(place)
        many.mount.add(place, collection="home/c0")
        assert (place / "which").read_text() == "0\n"
        assert not (place / "news").exists()
    with arvfuse.session.open(many.store) as session:
        collection = session.collection("home/c0")
        for name in ("which", "news"):
            with collection.open(name, "w") as file:
                file.write("changed\n")
        collection.save()
    deadline = time.monotonic() + PATIENCE_S
    for place in many.places:
        while not ((place / "news").exists() and (place / "which").read_text() == "changed\n"):
            assert time.monotonic() < deadline, place


def test_what_cannot_be_mounted_is_said(tmp_path: Path, stack: ExitStack) -> None:
    many = Many(tmp_path, stack, places=2)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused: list[tuple[str, str | None, type[ArvfuseError]]] = [
        ("nothing", None, NoSuchEntry),
        ("file", None, NotADirectory),
        ("full", None, Busy),
        ("m1", "home/nothing", NoSuchRecord),
    ]
    for place, collection, kind in refused:
        with pytest.raises(kind):
            many.mount.add(tmp_path / place, collection=collection)
    with pytest.raises(NoSuchEntry):
        many.mount.remove(many.places[1])
    many.add(0)
    with pytest.raises(Busy):
        many.mount.add(many.places[0])
    with open(many.places[0] / "which"), pytest.raises(Busy):
        many.mount.remove(many.places[0])
    assert many.content(0) == "0\n"


@pytest.mark.parametrize(("read_write", "driver"), [(True, "kernel"), (False, "llfuse")])
def test_further_mounts_are_read_only_ones_of_the_kernel_driver(tmp_path: Path, read_write: bool, driver: str) -> None:
    arvfuse.session.open(tmp_path / "store").close()
    (tmp_path / "further").mkdir()
    with (
        Mount(store=tmp_path / "store", read_write=read_write, options={"driver": driver}) as mount,
        pytest.raises(NotSupported),
    ):
        mount.add(tmp_path / "further")
