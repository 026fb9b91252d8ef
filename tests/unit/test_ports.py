"""The contracts: what they ask for, and that the adapters at hand have their shape (conformance proves the rest)."""

from __future__ import annotations

import inspect

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.ports import BlockStore, Catalog, ChangeFeed, Clock, KernelNotices
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock

VERBS = {
    BlockStore: {"put", "adopt", "fetch_range", "contains", "barrier", "free_bytes", "close"},
    Catalog: {
        "home", "get", "get_project", "find_by_pdh", "find", "contents", "collections", "create", "create_project",
        "save", "save_many", "update", "trash", "versions", "applied", "forget_applied", "manifest", "manifest_path",
        "keep_manifest", "feed", "close",
    },
    ChangeFeed: {"wait", "close"},
    Clock: {"time_ns", "monotonic", "sleep"},
    KernelNotices: {"invalidate_entry", "invalidate_inode"},
}  # fmt: skip


def verbs_of(port: type) -> dict[str, object]:
    """The public methods of a port."""
    return {name: value for name, value in vars(port).items() if inspect.isfunction(value) and name[0] != "_"}


@pytest.mark.parametrize("port", list(VERBS), ids=lambda port: port.__name__)
def test_a_port_asks_for_these_verbs(port: type) -> None:
    assert set(verbs_of(port)) == VERBS[port]
    assert port.__doc__


@pytest.mark.parametrize(
    ("port", "adapter"),
    [
        (BlockStore, MemoryStore()),
        (BlockStore, Faulty(MemoryStore())),
        (Catalog, MemoryCatalog(clock=SystemClock())),
        (Clock, SystemClock()),
        (Clock, FakeClock()),
    ],
)
def test_an_adapter_takes_the_arguments_of_its_port(port: type, adapter: object) -> None:
    for name, verb in verbs_of(port).items():
        assert callable(verb)
        asked = list(inspect.signature(verb).parameters)[1:]
        given = list(inspect.signature(getattr(adapter, name)).parameters)
        assert given == asked, name


def test_stores_and_catalogs_are_recognised_at_run_time() -> None:
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    assert isinstance(store, BlockStore)
    assert isinstance(catalog, Catalog)
    assert not isinstance(store, Catalog)
    assert not isinstance(catalog, BlockStore)


class Recorder:
    """Notices as a driver would get them."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.seen.append((parent, name))

    def invalidate_inode(self, node: int, *, attributes_only: bool = False) -> None:
        self.seen.append((node, attributes_only))


def test_notices_are_about_numbers_and_bytes() -> None:
    recorder = Recorder()
    notices: KernelNotices = recorder
    notices.invalidate_entry(1, b"a")
    notices.invalidate_inode(2)
    notices.invalidate_inode(3, attributes_only=True)
    assert recorder.seen == [(1, b"a"), (2, False), (3, True)]
