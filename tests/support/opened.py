"""Opened stores for tests: memory parts, and mounts' directories with a log in them."""

from __future__ import annotations

from pathlib import Path

from arvfuse.backend import mountdirs
from arvfuse.backend.mountdirs import MountDirectory
from arvfuse.backend.parts import Parts
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.model.collections import CollectionRecord
from arvfuse.model.manifests import Manifest
from arvfuse.ports import Clock
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock


def memory_parts(directory: Path, clock: Clock | None = None) -> Parts:
    """A store in memory whose mounts' directories are below *directory*."""
    clock = clock or FakeClock(auto=True)
    catalog = MemoryCatalog(clock=clock)
    return Parts(directory=directory, store=MemoryStore(), catalog=catalog, clock=clock, writer="test")


def leave_changes(parts: Parts, record: CollectionRecord, name: bytes, content: bytes) -> MountDirectory:
    """A mount of *record* wrote file *name* and died before it committed; the lock is still held."""
    directory = mountdirs.create(parts.directory)
    workspace = Workspace(directory.path, mount=directory.mount, store=parts.store, clock=parts.clock)
    tree = workspace.open_tree(record, Manifest(parts.catalog.manifest(record.pdh)))
    file = tree.create(tree.root, name)
    tree.write(file, 0, content)
    workspace.close()
    return directory
