"""Files that lost their name while the kernel may still come for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import NoSuchEntry, StaleNode
from arvfuse.fusedir.lingering import Held, Lingering
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree
from tests.support.engines import Mounted, now


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    made.engine.new_collection("c")
    yield made
    made.close()


@pytest.fixture
def top(mounted: Mounted) -> int:
    return mounted.walk(b"home", b"c")


def written(mounted: Mounted, top: int, name: bytes, data: bytes) -> int:
    """A file that is written and closed, and that the kernel knows once."""
    number = mounted.write_file(top, name, data)
    count = mounted.ops.host.inodes.count(number)
    mounted.ops.forget([(number, count - 1)])
    return number


@pytest.mark.parametrize("data", [b"small, in the log", b"x" * (2 << 20)], ids=["inline", "block"])
@pytest.mark.parametrize("committed", [False, True])
def test_who_found_a_file_before_it_was_replaced_opens_that_file(
    mounted: Mounted, top: int, data: bytes, committed: bool
) -> None:
    old = written(mounted, top, b"common", data)
    if committed:
        mounted.engine.commit(mounted.engine.workspace.trees)
    written(mounted, top, b"own", b"new")
    now(mounted.ops.rename(top, b"own", top, b"common"))
    lingering = mounted.ops.host.lingering
    assert isinstance(lingering, Lingering)
    assert len(lingering) == 1
    handle = mounted.ops.open(old, os.O_RDWR).handle
    assert mounted.ops.getattr(old).size == len(data)
    if committed:  # what has no name is kept by further commits too
        mounted.write_file(top, b"more", b"more")
        mounted.engine.commit(mounted.engine.workspace.trees)
    assert b"".join(mounted.ops.read(handle, 0, 4 << 20)) == data
    mounted.ops.write(handle, 0, b"!")
    mounted.ops.forget([(old, 1)])
    assert len(lingering) == 0
    assert b"".join(mounted.ops.read(handle, 0, 4 << 20)) == b"!" + data[1:]
    mounted.ops.release(handle)
    assert mounted.read_file(mounted.walk(b"home", b"c", b"common")) == b"new"


def test_what_is_stored_lingers_without_a_handle_until_somebody_changes_it(mounted: Mounted, top: int) -> None:
    number = written(mounted, top, b"f", b"x" * (2 << 20))
    mounted.engine.commit(mounted.engine.workspace.trees)
    file = mounted.ops.host.inodes.find(number)
    now(mounted.ops.unlink(top, b"f"))
    assert (file.handles, number in mounted.ops.host.lingering) == (0, True)
    for _ in range(2):
        assert mounted.read_file(number)[:3] == b"xxx"
    handle = mounted.ops.open(number, os.O_WRONLY).handle
    mounted.ops.write(handle, 1, b"!" * (1 << 20))
    mounted.ops.release(handle)
    assert file.handles == 1
    mounted.write_file(top, b"other", b"other")
    mounted.engine.commit(mounted.engine.workspace.trees)
    assert mounted.read_file(number)[:3] == b"x!!"
    now(mounted.ops.setattr(number, size=2))
    assert mounted.read_file(number) == b"x!"
    mounted.ops.forget([(number, 1)])
    assert (file.handles, len(mounted.ops.host.lingering)) == (0, 0)
    assert mounted.engine.workspace.shared.spool.level == len(b"other"), "in a log that is still written to"
    with pytest.raises(StaleNode):
        mounted.ops.open(number, os.O_RDONLY)


def test_a_hold_that_counts_no_handle_is_claimed_once() -> None:
    uncounted, counted = (Held(FileNode(7, Tree(None, reserve=Numbers().take)), each) for each in (False, True))
    assert (repr(uncounted), repr(counted)) == ("<Held 7 uncounted>", "<Held 7>")
    assert [uncounted.claim(), uncounted.claim(), counted.claim()] == [True, False, False]


def test_what_was_removed_goes_when_the_kernel_forgets_it(mounted: Mounted, top: int) -> None:
    number = written(mounted, top, b"f", b"x" * (2 << 20))
    spool = mounted.engine.workspace.shared.spool
    assert spool.level >= 2 << 20
    now(mounted.ops.unlink(top, b"f"))
    assert mounted.ops.getattr(number).size == 2 << 20
    mounted.ops.forget([(number, 1)])
    assert spool.level == 0
    with pytest.raises(StaleNode):
        mounted.ops.getattr(number)
    assert repr(mounted.ops.host.lingering) == "<Lingering 0 files>"


def test_what_the_kernel_does_not_know_goes_at_once(mounted: Mounted, top: int) -> None:
    number = written(mounted, top, b"f", b"x" * (2 << 20))
    mounted.ops.forget([(number, 1)])
    now(mounted.ops.unlink(top, b"f"))
    assert (len(mounted.ops.host.lingering), mounted.engine.workspace.shared.spool.level) == (0, 0)


def test_a_name_that_stays_is_not_held(mounted: Mounted, top: int) -> None:
    number = written(mounted, top, b"f", b"data")
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.rename(top, b"none", top, b"f"))
    now(mounted.ops.rename(top, b"f", top, b"f"))
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.unlink(top, b"none"))
    assert len(mounted.ops.host.lingering) == 0
    assert mounted.ops.trees_in_use()
    mounted.ops.forget([(number, 1)])
    assert mounted.read_file(mounted.walk(b"home", b"c", b"f")) == b"data"


def test_a_look_up_that_meets_a_removal_looks_again(mounted: Mounted, top: int) -> None:
    """The file was found; before the kernel is told of it another thread renames over it."""
    old = written(mounted, top, b"common", b"old")
    mounted.ops.forget([(old, 1)])
    written(mounted, top, b"own", b"new")
    host, raced = mounted.ops.host, []
    tell_of = host.tell_of

    def racing(file):
        if not raced:
            raced.append(file.no)
            now(mounted.ops.rename(top, b"own", top, b"common"))
        return tell_of(file)

    host.tell_of = racing
    entry = now(mounted.ops.lookup(top, b"common"))
    assert raced == [old]
    assert entry.attr.no != old
    assert mounted.read_file(entry.attr.no) == b"new"
    assert host.inodes.count(old) == 0


def test_two_that_remove_a_name_by_two_paths_hold_it_once(mounted: Mounted, top: int) -> None:
    number = written(mounted, top, b"f", b"x" * (2 << 20))
    host, file = mounted.ops.host, mounted.ops.host.inodes.find(number)
    live, directory = file.tree, file.parent
    held = [host.lingering.hold(live, directory, b"f") for _ in range(2)]
    assert [isinstance(each, Held) for each in held] == [True, True]
    assert file.handles == 2
    live.unlink(directory, b"f")
    for each in held:
        host.lingering.settle(each, host.inodes)
    assert (len(host.lingering), file.handles) == (1, 1)
    mounted.ops.forget([(number, 1)])
    assert (len(host.lingering), file.handles, mounted.engine.workspace.shared.spool.level) == (0, 0, 0)
    assert host.lingering.hold(live, directory, b"f") is None


@pytest.mark.parametrize("is_open", [False, True])
def test_a_file_that_loses_its_name_while_it_is_told_of_is_not_kept(mounted: Mounted, top: int, is_open: bool) -> None:
    """Who removes the name finds that the kernel knows the file, which is only about to be told."""
    old = written(mounted, top, b"common", b"old")
    handle = mounted.ops.open(old, os.O_RDONLY).handle if is_open else 0
    mounted.ops.forget([(old, 1)])
    written(mounted, top, b"own", b"new")
    host, raced = mounted.ops.host, []
    file = mounted.engine.workspace.trees[0].lookup(mounted.engine.workspace.trees[0].root, b"common")
    remember = host.inodes.remember

    def racing(node):
        number = remember(node)
        if node is file and not raced:
            raced.append(number)
            now(mounted.ops.rename(top, b"own", top, b"common"))
        return number

    host.inodes.remember = racing
    entry = now(mounted.ops.lookup(top, b"common"))
    assert raced == [old]
    assert entry.attr.no != old
    assert (len(host.lingering), file.handles, host.inodes.count(old)) == (0, int(is_open), 0)
    if is_open:
        assert b"".join(mounted.ops.read(handle, 0, 9)) == b"old"
        mounted.ops.release(handle)


def test_times_that_the_kernel_sets_of_an_unlinked_file_claim_nothing(mounted: Mounted, top: int) -> None:
    """With a write-back cache it does that after each unlink(2): a claim cost a record of the log each."""
    number = written(mounted, top, b"f", b"data")
    mounted.engine.commit(mounted.engine.workspace.trees)
    file = mounted.ops.host.inodes.find(number)
    now(mounted.ops.unlink(top, b"f"))
    assert now(mounted.ops.setattr(number, mtime_ns=5)).mtime_ns == 5
    assert (file.handles, mounted.ops.getattr(number).mtime_ns) == (0, 5)
    now(mounted.ops.setattr(number, size=2))  # but its content is changed for whoever opens it still
    assert file.handles == 1
    seq = mounted.engine.workspace.log.seq
    mounted.ops.forget([(number, 1)])
    assert (file.handles, mounted.engine.workspace.log.seq) == (0, seq + 1)
