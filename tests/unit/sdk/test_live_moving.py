"""What moves to another tree of the workspace is bound to its numbers there anew."""

from __future__ import annotations

from pathlib import Path

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, put_file, saved_contents


def test_a_directory_that_went_to_another_tree_and_came_back_can_be_written_to(tmp_path: Path) -> None:
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    here, there = catalog.create(name="here"), catalog.create(name="there")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree, other = session.open(here), session.open(there)
        directory = tree.mkdir(tree.root, b"d")
        file = put_file(tree, b"f", b"before", directory)
        tree.rename(tree.root, b"d", other.root, b"d")
        other.rename(other.root, b"d", tree.root, b"back")
        tree.write(file, 0, b"behind")
        session.committed()
    assert saved_contents(catalog, store, here.uuid) == {(b"back",): None, (b"back", b"f"): b"behind"}
    assert saved_contents(catalog, store, there.uuid) == {}
