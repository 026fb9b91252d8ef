"""The adapters of the catalog port, what their conformance tests say it with, and a catalog that fails on demand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.errors import CommitConflict, StoreUnavailable
from arvfuse.model.collections import EMPTY_PDH, Applied, CollectionRecord, MountId, Save
from arvfuse.ports import Catalog
from tests.support.clock import FakeClock

Opener = Callable[[Path, FakeClock], Callable[[], Any]]


def sqlite_opener(path: Path, clock: FakeClock) -> Callable[[], SqliteCatalog]:
    return lambda: SqliteCatalog(path / "store", clock=clock)


def memory_opener(path: Path, clock: FakeClock) -> Callable[[], MemoryCatalog]:
    first = MemoryCatalog(clock=clock)
    return lambda: MemoryCatalog(clock=clock, of=first)


OPENERS = {"sqlite": sqlite_opener, "memory": memory_opener}


def text_of(number: int) -> bytes:
    return f". d41d8cd98f00b204e9800998ecf8427e+0 0:0:file{number}\n".encode()


def save_of(record: CollectionRecord, number: int, **more: Any) -> Save:
    text = text_of(number)
    return Save(uuid=record.uuid, expect=record.version, pdh=pdh_of_stripped(text), manifest=text, **more)


def applied_of(seq: int, mount: str = "m1") -> Applied:
    return Applied(mount=MountId(mount), seq=seq, ours_pdh=EMPTY_PDH)


def names(records: Any) -> list[str]:
    return [record.name for record in records]


class catalog_feed:
    def __init__(self, catalog: Any) -> None:
        self.feed = catalog.feed()

    def __enter__(self) -> Any:
        return self.feed

    def __exit__(self, *exc: object) -> None:
        self.feed.close()


class FaultyCatalog:
    """*catalog*, but the next calls of a verb go as ``script[verb]`` says: ok, FAIL (before any effect), AFTER (the
    effect happened, the answer was lost), CONFLICT (the record moved). Any thread may call."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.script: dict[str, list[str]] = {}
        self.calls: dict[str, int] = {}

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        effect = getattr(self._catalog, verb)

        def call(*args: Any, **named: Any) -> Any:
            self.calls[verb] = self.calls.get(verb, 0) + 1
            words = self.script.get(verb)
            word = words.pop(0) if words else "ok"
            if word == "CONFLICT":
                raise CommitConflict(f"scripted fault of {verb}")
            if word == "FAIL":
                raise StoreUnavailable(f"scripted fault of {verb}")
            result = effect(*args, **named)
            if word == "AFTER":
                raise StoreUnavailable(f"scripted fault of {verb}: its answer was lost")
            return result

        return call
