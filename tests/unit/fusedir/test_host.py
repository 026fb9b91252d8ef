"""What directories share: numbers, attributes, the names of one directory at several places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.fresh.node import VirtualNode
from arvfuse.fusedir.host import (
    Alias,
    Engine,
    Host,
    Link,
    Names,
    NumberSource,
    Position,
    RecordInfo,
    Settings,
    Shown,
)
from arvfuse.inodes import ROOT
from arvfuse.model.manifests import Manifest
from tests.support.engines import Mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    yield made
    made.close()


def test_an_engine_is_what_its_parts_are(mounted: Mounted) -> None:
    engine: Engine = mounted.engine
    link: Link = engine.link
    source: NumberSource = engine.workspace
    assert link.request("home").result()["entry"]["type"] == "project"
    host = Host(engine, mounted.notices, mounted.engine.clock, Settings())
    assert host.settings.read_only
    assert source.numbers.next() < host.number() < host.number()


def test_no_node_but_the_root_has_its_number(mounted: Mounted) -> None:
    assert all(mounted.ops.host.number() > ROOT for _ in range(3))


def test_the_first_position_shows_own_numbers_and_others_aliases(mounted: Mounted) -> None:
    host = mounted.ops.host
    live = mounted.engine.workspace.open_tree(None, Manifest(b""))
    directory = live.mkdir(live.root, b"d")
    first, second = VirtualNode(host.number()), VirtualNode(host.number())
    position: Position = first
    for place in (first, second, second):
        host.shown_at(live, place)
    assert host.is_first(directory, None)
    assert host.is_first(directory, position)
    assert not host.is_first(directory, second)
    assert host.face(directory, None) is host.face(directory, first) is directory
    alias = host.face(directory, second)
    assert isinstance(alias, Alias)
    assert host.face(directory, second) is alias
    assert host.numbers_of(directory) == [directory.no, alias.no]
    assert host.numbers_of(live.root) == [first.no, second.no]
    host.evict(alias)
    assert host.numbers_of(directory) == [directory.no]
    assert host.face(directory, second) is not alias


def test_only_numbers_that_the_kernel_knows_are_told(mounted: Mounted) -> None:
    host = mounted.ops.host
    live = mounted.engine.workspace.open_tree(None, Manifest(b""))
    directory = live.mkdir(live.root, b"d")
    first, second = VirtualNode(host.number()), VirtualNode(host.number())
    host.shown_at(live, first)
    host.shown_at(live, second)
    alias = host.face(directory, second)
    assert isinstance(alias, Alias)
    host.name_changed(directory, b"x")
    assert mounted.told() == []
    host.inodes.remember(directory)
    host.inodes.remember(alias)
    host.name_changed(directory, b"x", told=directory.no)
    assert mounted.told() == [(alias.no, b"x")]
    host.name_changed(directory, b"x")
    assert mounted.told()[1:] == [(directory.no, b"x"), (alias.no, b"x")]


def test_modes_follow_what_may_be_written(mounted: Mounted) -> None:
    host = mounted.ops.host
    live = mounted.engine.workspace.open_tree(None, Manifest(b""))
    file = live.create(live.root, b"f")
    assert host.may_write(live)
    assert host.file_attr(file).mode == 0o777
    live.set_attrs(file, mode=0o640)
    assert host.file_attr(file).mode == 0o640
    live.writable = False
    assert not host.may_write(live)
    assert host.file_attr(file).mode == 0o440
    attr = host.directory_attr(9, writable=False, mtime_ns=3, keep_s=5, mode=0o700)
    assert (attr.mode, attr.mtime_ns, attr.timeout_s) == (0o500, 3, 5)


def test_records_are_parsed_and_found_where_they_are_shown() -> None:
    info = RecordInfo.parse({"uuid": "u", "type": "project", "name": "n", "modified_at_ns": None, "more": 1})
    assert info == RecordInfo("u", True, "n", 0)
    shown = Shown()
    node = VirtualNode(5)
    shown.add("u", node)
    assert shown.at("u") == [node]
    names: Names = [(info.name.encode(), node.no, info.is_project)]
    assert names == [(b"n", 5, True)]
    assert shown.at("v") == []
