"""A file that grows slowly: appends in simulated time, committed as a mount would commit them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.putpool import PutPool
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore

COMMIT_EVERY_S: Final = 30.0
"""Such appends never leave a second of quiet, so the deadline commits."""


class _Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1e9

    def time_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def segments_after(directory: Path, appends: int, size: int, seconds: float) -> int:
    """The number of segments that a file of *appends* times *size* bytes has, written over *seconds*."""
    clock = _Clock()
    store, catalog, pool = MemoryStore(), MemoryCatalog(clock=clock), PutPool()
    record = catalog.create(name="log")
    directory.mkdir(parents=True)
    mount = MountId("bench")
    workspace = Workspace(directory, mount=mount, store=store, clock=clock)
    committer = Committer(
        directory=directory, mount=mount, store=store, catalog=catalog, clock=clock, pool=pool,
        on_stored=workspace.stored,
    )  # fmt: skip
    tree = workspace.open_tree(record, Manifest(b""))
    file = tree.create(tree.root, b"log")
    try:
        due = clock.now + COMMIT_EVERY_S
        for number in range(appends):
            tree.write(file, number * size, _line(number, size))
            clock.now += seconds / appends
            if clock.now >= due:
                trees, seq = workspace.commit_point([tree])
                workspace.take(committer.commit([each.no for each in trees], seq))
                due = clock.now + COMMIT_EVERY_S
        trees, seq = workspace.commit_point([tree])
        workspace.take(committer.commit([each.no for each in trees], seq))
        text = Manifest(catalog.manifest(catalog.get(record.uuid).pdh))
        listed = text.listing(()).files[b"log"]
        assert listed.size == appends * size
        for number in (0, appends // 2, appends - 1):
            assert bytes(tree.read(file, number * size, size)) == _line(number, size)
        return len(listed.segments())
    finally:
        workspace.close()
        committer.close()
        pool.close()


def _line(number: int, size: int) -> bytes:
    return f"{number:>{size - 1}}\n".encode()
