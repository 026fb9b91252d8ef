"""Directory handles: a snapshot that changes neither hide nor repeat names in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import StaleNode, StoreUnavailable
from arvfuse.fusedir.handles import DirectoryHandle, DirectoryHandles
from arvfuse.fusedir.host import Names
from arvfuse.fusedir.listings import READ_ALL, Keeping, Listings
from arvfuse.model.manifests import Manifest
from tests.support.engines import Mounted, now


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
    for number in range(20):
        made.write_file(1, b"f%02d" % number, b"")
    yield made
    made.close()


def test_reading_in_parts_gives_each_name_once_whatever_changes(mounted: Mounted) -> None:
    handle = now(mounted.ops.opendir(1))
    seen: list[bytes] = []
    cookie = 0
    for step in range(30):
        part = []
        for listed in now(mounted.ops.readdir(handle, cookie)):
            part.append(listed)
            if len(part) == 3:
                break
        if not part:
            break
        cookie = part[-1].cookie
        seen += [listed.name for listed in part]
        mounted.write_file(1, b"a-new-%d" % step, b"")
        if step < 10:
            mounted.ops.unlink(1, b"f%02d" % step)
    assert seen == [b".", b"..", *(b"f%02d" % number for number in range(20))]
    mounted.ops.releasedir(handle)


def test_from_the_start_again_is_a_new_snapshot(mounted: Mounted) -> None:
    handle = now(mounted.ops.opendir(1))
    first = list(now(mounted.ops.readdir(handle, 0)))
    assert (first[0].no, first[1].no) == (1, 1)
    mounted.ops.unlink(1, b"f00")
    again = list(now(mounted.ops.readdir(handle, 0)))
    assert len(again) == len(first) - 1
    mounted.ops.releasedir(handle)


def test_an_outage_leaves_the_old_snapshot(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.engine.new_collection("c")
    home = mounted.walk(b"home")
    directory: Any = mounted.ops.host.inodes.find(home)
    names: Names = now(directory.listing())
    handle = DirectoryHandle(directory, home, names, Listings(60.0), mounted.engine.clock)
    assert handle.keeping == READ_ALL, "what comes from the catalog has no version"
    assert directory.uses == 1
    assert [listed.name for listed in now(handle.read(0))] == [b".", b"..", b"c"]
    mounted.engine.clock.advance(15)
    mounted.engine.link.down = True
    with pytest.raises(StoreUnavailable):
        now(handle.read(0))
    assert [listed.name for listed in now(handle.read(2))] == [b"c"]
    assert repr(handle) == f"<DirectoryHandle of node {home} names=1>"
    handle.release()
    assert directory.uses == 0
    mounted.close()


def test_handles_have_numbers_and_the_snapshots_of_what_was_not_opened_are_few(mounted: Mounted) -> None:
    handles = DirectoryHandles(itertools.count(7), Listings(60.0), mounted.engine.clock)
    root = mounted.ops.root
    assert handles.open(root, 1) == 7
    assert (len(handles), 7 in handles, [each.no for each in handles.all()]) == (1, True, [1])
    assert handles.find(7) is handles.all()[0]
    known = handles.unopened(root, 1)
    assert handles.unopened(root, 1) is known
    for number in range(2, 100):
        handles.unopened(root, number)
    assert handles.unopened(root, 1) is not known
    handles.release(7)
    for use in (handles.find, handles.release):
        with pytest.raises(StaleNode):
            use(7)


NEW, KEPT = Keeping(fills=True, holds=False), Keeping(fills=True, holds=True)


def keeping(mounted: Mounted, *, whole: bool = True) -> Keeping:
    """What the kernel may do with a listing of the root; it reads what it may not keep as yet."""
    handle = now(mounted.ops.opendir(1))
    found = mounted.ops.keeping(handle)
    if not found.holds:
        last = list(now(mounted.ops.readdir(handle, 0)))[-1].cookie
        if whole:
            assert list(now(mounted.ops.readdir(handle, last))) == []
    mounted.ops.releasedir(handle)
    return found


def test_the_kernel_goes_on_with_a_listing_that_it_has_in_whole(mounted: Mounted) -> None:
    assert [keeping(mounted, whole=False), keeping(mounted), keeping(mounted)] == [NEW, NEW, KEPT]
    mounted.engine.clock.advance(61)
    assert [keeping(mounted), keeping(mounted)] == [NEW, KEPT]


@pytest.mark.parametrize("change", ["create", "unlink", "rename", "mkdir"])
def test_and_reads_it_again_after_any_change(mounted: Mounted, change: str) -> None:
    assert [keeping(mounted), keeping(mounted)] == [NEW, KEPT]
    match change:
        case "create":
            mounted.write_file(1, b"new", b"")
        case "unlink":
            mounted.ops.unlink(1, b"f00")
        case "rename":
            now(mounted.ops.rename(1, b"f00", 1, b"f99"))
        case "mkdir":
            now(mounted.ops.mkdir(1, b"d", 0o755))
    assert [keeping(mounted), keeping(mounted)] == [NEW, KEPT]


def test_readers_of_different_versions_keep_nothing(mounted: Mounted) -> None:
    first = now(mounted.ops.opendir(1))
    last = list(now(mounted.ops.readdir(first, 0)))[-1].cookie
    mounted.ops.unlink(1, b"f00")
    assert keeping(mounted) == READ_ALL
    assert list(now(mounted.ops.readdir(first, last))) == []  # the kernel has the old one now
    mounted.ops.releasedir(first)
    assert [keeping(mounted), keeping(mounted)] == [NEW, KEPT]


def test_a_handle_that_begins_anew_is_of_the_new_version(mounted: Mounted) -> None:
    handle = now(mounted.ops.opendir(1))
    list(now(mounted.ops.readdir(handle, 0)))
    mounted.ops.unlink(1, b"f00")
    last = list(now(mounted.ops.readdir(handle, 0)))[-1].cookie
    assert list(now(mounted.ops.readdir(handle, last))) == []
    mounted.ops.releasedir(handle)
    assert [keeping(mounted), keeping(mounted)] == [NEW, KEPT]


def test_a_place_says_of_which_version_it_is(mounted: Mounted) -> None:
    old, new = (list(now(mounted.ops.readdir(now(mounted.ops.opendir(1)), 0))) for _ in range(2))
    assert old == new
    mounted.ops.unlink(1, b"f00")
    handle = now(mounted.ops.opendir(1))
    new = list(now(mounted.ops.readdir(handle, 0)))
    assert not {each.cookie for each in old} & {each.cookie for each in new}
    for at, each in enumerate(new):
        assert list(now(mounted.ops.readdir(handle, each.cookie))) == new[at + 1 :]
        assert 0 < each.cookie < 1 << 31


def test_a_handle_may_go_while_it_is_read_anew(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
    mounted.write_file(1, b"f", b"")
    listings = Listings(60.0)
    names: Names = now(mounted.ops.root.listing())
    handle = DirectoryHandle(mounted.ops.root, 1, names, listings, mounted.engine.clock)
    other = DirectoryHandle(mounted.ops.root, 1, names, listings, mounted.engine.clock)
    mounted.write_file(1, b"g", b"")
    again: Names = now(mounted.ops.root.listing())
    handle.release()
    assert [each.name for each in handle._again(again)] == [b".", b"..", b"f", b"g"]
    other.release()
    assert repr(listings) == "<Listings 0 kept, 0 being read>"
    mounted.close()
