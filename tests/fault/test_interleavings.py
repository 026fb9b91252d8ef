"""Deaths, failures and other threads at the worst moment: no byte is lost, no wrong one shown, nothing waits for ever."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import LogFailed
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import log_path
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, put_file, recovered, saved_contents
from tests.support.stores import noise

LARGE = noise(SMALL_BYTES + 5000)


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Any write beyond *size* bytes of any file of this process fails, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=SystemClock())


def unlink(tree: LiveTree, file: FileNode) -> None:
    tree.unlink(tree.root, file.name)


def remove_tree(tree: LiveTree, file: FileNode) -> None:
    tree.remove_tree(tree.root, file.name)


def replace(tree: LiveTree, file: FileNode) -> None:
    tree.rename(tree.root, b"other", tree.root, file.name)


def empty(tree: LiveTree, file: FileNode) -> None:
    tree.truncate(file, 0)


def set_content(tree: LiveTree, file: FileNode) -> None:
    tree.set_content(file, ())


@pytest.mark.parametrize("drop", [unlink, remove_tree, replace, empty, set_content])
def test_bytes_go_after_the_record_that_lets_them_go(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog, drop: object
) -> None:
    """A death between the two leaves a log that needs the spool file, or the whole collection could not be committed."""
    assert callable(drop)
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"other", b"o")
        file = put_file(tree, b"file", LARGE)
        with files_end_at(log_path(tmp_path, 1).stat().st_size + 10), pytest.raises(LogFailed):
            drop(tree, file)
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"other",): b"o", (b"file",): LARGE}
