"""An opened store for library users: collections by identity, new collections, the catalog and the blocks.

``open`` gives a session; its log and spool are in ``mounts/<id>`` of the store, locked while it lives, so that a
recovery knows it is no leftover. What is not saved when a session is closed is dropped, unless it was fsynced: then
the directory stays, and the next recovery keeps the content as a collection of its own. Threading: any thread.
Failure: errors of opening name the directory; a closed session's collections are of no use.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from arvfuse.backend import mountdirs
from arvfuse.backend.identities import Resolved, resolve
from arvfuse.backend.parts import Parts, open_parts
from arvfuse.clock import SystemClock
from arvfuse.errors import ArgumentError, ArvfuseError
from arvfuse.model.collections import MountId
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.sdk.collection import Collection, CollectionReader
from arvfuse.sdk.host import Host


class Session:
    """A store in use. Close it, or use it as a context manager."""

    def __init__(self, parts: Parts, *, read_only: bool) -> None:
        """*parts* are closed with the session."""
        self._parts: Final = parts
        self.read_only: Final = read_only
        # A reader writes nothing into the store, which may be one that cannot be written.
        self._directory: Final = None if read_only else mountdirs.create(parts.directory)
        if self._directory is not None:
            path, mount = self._directory.path, self._directory.mount
        else:
            path = Path(tempfile.mkdtemp(prefix="arvfuse-"))
            mount = MountId(path.name)
        self._host: Final = Host(path, mount, parts.store, parts.catalog, parts.clock, durable=not read_only)
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "read-only" if self.read_only else "open"
        return f"<Session {str(self._parts.directory)!r} {state}>"

    @property
    def catalog(self) -> Catalog:
        """The records."""
        return self._parts.catalog

    @property
    def store(self) -> BlockStore:
        """The blocks."""
        return self._parts.store

    @property
    def host(self) -> Host:
        """Where the session's collections live."""
        return self._host

    def new(self, name: str | None = None) -> Collection:
        """An empty collection. With *name*, its record is made at once (NameTaken); else by ``save_new``."""
        collection = Collection(host=self._host)
        if name is not None:
            collection.save_new(name)
        return collection

    def collection(self, identity: str) -> Collection:
        """The collection of a uuid, a portable data hash, ``name@version`` below home, or a path below home.

        What is bound to no current record can be changed and saved as a new one. NoSuchRecord, ArgumentError."""
        found = self.resolve(identity)
        if found.path:
            raise ArgumentError(f"{identity}: names something in a collection, not one")
        return (CollectionReader if self.read_only else Collection)(found.identity, host=self._host)

    def resolve(self, identity: str) -> Resolved:
        """What *identity* means: ``ID`` or ``ID/path``, where a path may begin at home. NoSuchRecord."""
        return resolve(self.catalog, identity)

    def close(self) -> None:
        """End the session and close the store. Idempotent."""
        if self._closed:
            return
        self._closed = True
        keep = self._host.has_kept
        try:
            self._host.close()
            if self._directory is not None and not keep:
                self._directory.remove()
                self.catalog.forget_applied(self._directory.mount)
        finally:
            if self._directory is not None:
                self._directory.unlock()
            self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open(
    store_dir_or_url: str | os.PathLike[str], *, read_only: bool = False, clock: Clock | None = None,
    unsafe_filesystem: bool = False,
) -> Session:  # fmt: skip
    """Open the store in a directory (made if it is missing, unless *read_only*).

    NotADirectory, NoSuchEntry, NotPermitted, NotSupported (the file system), SchemaMismatch, Damaged."""
    where = os.fspath(store_dir_or_url)
    scheme, separator, rest = where.partition("://")
    if separator and scheme != "file":
        raise ArgumentError(f"{where}: stores of kind {scheme!r} are not known here")
    directory = Path(rest if separator else where).absolute()
    parts = open_parts(
        directory, clock=clock or SystemClock(), create=not read_only, read_only=read_only,
        unsafe_filesystem=unsafe_filesystem,
    )  # fmt: skip
    try:
        return Session(parts, read_only=read_only)
    except (ArvfuseError, OSError):
        parts.close()
        raise
