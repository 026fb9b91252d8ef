"""The contracts: what they ask for, and that the adapters at hand have their shape (conformance proves the rest)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.ports import (
    UNSAID_AHEAD_BYTES,
    BlockStore,
    Catalog,
    ChangeFeed,
    Clock,
    KernelNotices,
    KnowsAhead,
    ahead_bytes,
)
from arvfuse.sdk.host import NoStore
from arvfuse.stores.cached import Cached
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from arvfuse.stores.retrying import Retrying
from arvfuse.stores.shelves import MemoryShelf
from tests.support.clock import FakeClock
from tests.support.stores import local

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


class Silent:
    """A store that says nothing about itself."""

    def __getattr__(self, name: str) -> object:
        if name == "ahead_bytes":
            raise AttributeError(name)
        return lambda *_: None


def test_stores_say_what_is_worth_being_fetched_ahead(tmp_path: Path) -> None:
    def wrapped(store: Any) -> list[BlockStore]:
        return [Faulty(store), Retrying(store, attempts=1, clock=FakeClock(), uniform=lambda: 0)]

    silent: Any = Silent()
    shelf = MemoryShelf(1)
    assert not isinstance(silent, KnowsAhead)
    assert [ahead_bytes(store) for store in (silent, *wrapped(silent))] == [UNSAID_AHEAD_BYTES] * 3
    assert ahead_bytes(Cached(silent, shelf)) == BLOCK_BYTES
    assert (
        ahead_bytes(Retrying(Cached(silent, shelf, line_bytes=1 << 20), attempts=1, clock=FakeClock(), uniform=float))
        == 1 << 20
    )
    at_hand = MemoryStore()
    assert isinstance(at_hand, KnowsAhead)
    for store in (at_hand, *wrapped(at_hand), Cached(at_hand, shelf), local(tmp_path), NoStore()):
        assert ahead_bytes(store) == 0


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
