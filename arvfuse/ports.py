"""The contracts between the layers: blocks, records, changes, kernel notices, time.

Every port has one conformance suite (tests/conformance) that every adapter, wrapper and fake passes. Optional
powers are small Protocols of their own. Any thread may call any method; no method takes a lock of its caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from arvfuse.model.collections import (
    PDH,
    Applied,
    Change,
    CollectionRecord,
    MountId,
    ProjectRecord,
    Save,
    Version,
)


class Clock(Protocol):
    """Time as a service, so that tests own it."""

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None: ...


@runtime_checkable
class BlockStore(Protocol):
    """Immutable blocks of at most 64 MiB named by their content. Locators are ``md5+size[+hints]``.

    When put() or adopt() returns, the block survives the death of this process; after barrier(), a power cut too.
    fetch_range() verifies: it returns the exact bytes or raises BlockMissing, Damaged or StoreUnavailable.
    put/adopt of content that is already there is a dedup hit; equal names with different content raise
    DigestCollision (a damaged old block is quarantined and replaced instead).
    """

    def put(self, data: bytes | memoryview) -> str:
        """Store *data* and return its locator."""
        ...

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """Take the finished, 0444 file at *path* as block *digest* (32 hex digits) of *size* bytes.

        A local store links it (the file stays at *path* too, the caller unlinks it when it likes); a remote one
        uploads it. *checks*: xxh3_64 of each 64 KiB piece, 8 bytes big-endian each (``model.checks.piece_checks``).
        The caller has hashed the bytes; the store need not read them again."""
        ...

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """The bytes [start, start+length) of the block, checked; short only past the block's end."""
        ...

    def contains(self, locator: str) -> bool: ...

    def barrier(self) -> None:
        """Everything put or adopted before this call is safe from a power cut when it returns."""
        ...

    def free_bytes(self) -> tuple[int, int]:
        """(total, available) bytes; (0, 0) where unknown."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class KnowsAhead(Protocol):
    """A power that a BlockStore may have: to say what is worth being fetched before somebody reads it."""

    @property
    def ahead_bytes(self) -> int:
        """Bytes of a block in one fetch, e.g. the line of a cache; 0 where reads cost as much earlier as later."""
        ...


UNSAID_AHEAD_BYTES: Final = 4 << 20


def ahead_bytes(store: BlockStore) -> int:
    """What *store* says about itself; 4 MiB if it says nothing: it may be far away."""
    return store.ahead_bytes if isinstance(store, KnowsAhead) else UNSAID_AHEAD_BYTES


@runtime_checkable
class Catalog(Protocol):
    """Records: collections with versions, and the projects that own them.

    A name is unique among the untrashed records of an owner. Errors: NoSuchRecord, NameTaken, CommitConflict,
    SchemaMismatch, Damaged, StoreUnavailable."""

    def home(self) -> ProjectRecord:
        """The user's own project, made at first use."""
        ...

    def get(self, uuid: str, *, version: Version | None = None, include_trash: bool = False) -> CollectionRecord: ...

    def get_project(self, uuid: str) -> ProjectRecord: ...

    def find_by_pdh(self, pdh: PDH) -> CollectionRecord | None:
        """Some untrashed collection or kept version with that content."""
        ...

    def find(self, owner: str, name: str) -> CollectionRecord | ProjectRecord | None: ...

    def contents(self, owner: str) -> Sequence[CollectionRecord | ProjectRecord]:
        """Untrashed records below *owner*, projects first, each sorted by name."""
        ...

    def collections(self, *, include_trash: bool = False) -> Sequence[CollectionRecord]: ...

    def create(
        self,
        *,
        name: str,
        owner: str | None = None,
        manifest: bytes = b"",
        properties: Mapping[str, Any] | None = None,
        ensure_unique_name: bool = False,
        trash_at_ns: int | None = None,
        storage_classes: Sequence[str] | None = None,
        replication: int | None = None,
        applied: Applied | None = None,
    ) -> CollectionRecord: ...

    def create_project(self, *, name: str, owner: str | None = None) -> ProjectRecord: ...

    def save(self, save: Save) -> CollectionRecord:
        """Compare-and-swap on the version; CommitConflict if it moved. *applied* is stored in the same transaction.
        The caller has called the block store's barrier() first (promise D5)."""
        ...

    def save_many(self, saves: Sequence[Save]) -> Sequence[CollectionRecord]:
        """All or none, in one transaction."""
        ...

    def update(
        self,
        uuid: str,
        *,
        expect: Version | None = None,
        name: str | None = None,
        owner: str | None = None,
        properties: Mapping[str, Any] | None = None,
        trash_at_ns: int | None = None,
        storage_classes: Sequence[str] | None = None,
    ) -> CollectionRecord:
        """Change attributes, not content."""
        ...

    def trash(self, uuid: str, *, expect: Version | None = None) -> None: ...

    def versions(self, uuid: str) -> Sequence[CollectionRecord]:
        """All kept versions, newest first, the current one included."""
        ...

    def applied(self, mount: MountId) -> Mapping[str, Applied]:
        """uuid -> what the newest save of *mount* covers; also of trashed records."""
        ...

    def forget_applied(self, mount: MountId) -> None:
        """The log of *mount* is gone; its rows may go."""
        ...

    def manifest(self, pdh: PDH) -> bytes:
        """The text; Damaged if it does not match its name."""
        ...

    def manifest_path(self, pdh: PDH) -> Path | None:
        """A file that holds exactly the text, to be mapped; None where there is none."""
        ...

    def keep_manifest(self, pdh: PDH, manifest: bytes) -> None:
        """Store a text without a record (ours at N of a merged save; it is pinned by the caller's log)."""
        ...

    def feed(self) -> ChangeFeed: ...

    def close(self) -> None: ...


class ChangeFeed(Protocol):
    """Changes of records since the feed was made, the caller's own included (``writer`` tells whose)."""

    def wait(self, timeout_s: float) -> Sequence[Change]:
        """Changes that came, oldest first; empty at the timeout. Raises StoreUnavailable; usable again after it."""
        ...

    def close(self) -> None: ...


class KernelNotices(Protocol):
    """What a driver offers to the invalidation queue. Both calls may block for seconds; neither raises."""

    def invalidate_entry(self, parent: int, name: bytes) -> None: ...

    def invalidate_inode(self, node: int, *, attributes_only: bool = False) -> None: ...
