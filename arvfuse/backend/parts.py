"""Store and catalog of a directory, opened the same way by every process and command that needs them.

Owns nothing but what it returns. Failure: one line that says what and what to do, and nothing left open.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from arvfuse.errors import ArvfuseError, NoSuchEntry
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.stores.localdir import LocalDir, open_store


class Parts(NamedTuple):
    """What an opened store consists of. *writer* marks our changes in the catalog's feed."""

    directory: Path
    store: BlockStore
    catalog: Catalog
    clock: Clock
    writer: str

    def close(self) -> None:
        """Close catalog and store."""
        self.catalog.close()
        self.store.close()


def open_blocks(
    directory: Path, *, clock: Clock, create: bool = False, read_only: bool = False, unsafe_filesystem: bool = False,
    lazily: bool = False,
) -> LocalDir:  # fmt: skip
    """The blocks of the store at *directory* alone: what an engine needs to read. *lazily*: see BlockIndex."""
    try:
        return open_store(
            directory,
            clock=clock,
            create=create,
            read_only=read_only,
            unsafe_filesystem=unsafe_filesystem,
            lazily=lazily,
        )
    except NoSuchEntry as error:
        raise NoSuchEntry(
            str(directory), "no store here; a read-write mount or `arvfuse put` makes one, or choose another --store"
        ) from error


def open_parts(
    directory: Path, *, clock: Clock, create: bool = False, read_only: bool = False, unsafe_filesystem: bool = False
) -> Parts:
    """Open the store at *directory*; with *create* make it if there is none.

    NoSuchEntry, NotADirectory, NotPermitted, NotSupported (file system), Damaged, SchemaMismatch."""
    from arvfuse.catalogs.sqlite import SqliteCatalog  # an engine, which opens blocks alone, does without

    store = open_blocks(directory, clock=clock, create=create, read_only=read_only, unsafe_filesystem=unsafe_filesystem)
    try:
        catalog = SqliteCatalog(directory, clock=clock, create=create or not read_only, read_only=read_only)
    except (ArvfuseError, OSError):
        store.close()
        raise
    return Parts(directory=directory, store=store, catalog=catalog, clock=clock, writer=catalog.writer)
