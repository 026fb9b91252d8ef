"""A collection's names against nested dictionaries: the same calls succeed, with the same result."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import ArvfuseError
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.fileitem import ArvadosFile
from tests.support.hosts import make_catalog, make_host
from tests.support.profiles import searching

PATHS = st.lists(st.sampled_from(["a", "b", "a-b", "é :\\"]), min_size=1, max_size=3).map("/".join)
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.binary(max_size=3)),
    st.tuples(st.just("mkdirs"), PATHS),
    st.tuples(st.just("remove"), PATHS, st.booleans()),
    st.tuples(st.just("rename"), PATHS, PATHS, st.booleans()),
    st.tuples(st.just("copy"), PATHS, PATHS, st.booleans()),
    st.tuples(st.just("save")),
)


class Refused(Exception):
    """The model says no."""


class Model:
    """Directories are dictionaries, files bytes."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}

    def directory(self, names: list[str], *, make: bool) -> dict[str, Any]:
        at: Any = self.root
        for name in names:
            if name not in at:
                if not make:
                    raise Refused
                at[name] = {}
            at = at[name]
            if not isinstance(at, dict):
                raise Refused
        return at

    def write(self, path: str, data: bytes) -> None:
        *above, name = path.split("/")
        entries = self.directory(above, make=True)
        if isinstance(entries.get(name), dict):
            raise Refused
        entries[name] = data

    def mkdirs(self, path: str) -> None:
        *above, name = path.split("/")
        entries = self.directory(above, make=True)
        if name in entries:
            raise Refused
        entries[name] = {}

    def remove(self, path: str, recursive: bool) -> None:
        *above, name = path.split("/")
        entries = self.directory(above, make=False)
        if name not in entries or (isinstance(entries[name], dict) and entries[name] and not recursive):
            raise Refused
        del entries[name]

    def place(self, source: str, target: str, *, make: bool) -> tuple[Any, dict[str, Any], str, list[str]]:
        *above, name = source.split("/")
        entries = self.directory(above, make=False)
        if name not in entries:
            raise Refused
        *there, new_name = target.split("/")
        inside = self.directory(there, make=make)
        if isinstance(inside.get(new_name), dict):
            there, inside, new_name = [*there, new_name], inside[new_name], name
        return entries[name], inside, new_name, there

    def add(self, source: str, target: str, overwrite: bool, *, move: bool) -> None:
        item, inside, name, there = self.place(source, target, make=not move)
        old = inside.get(name)
        path = source.split("/")
        if old is not None and not overwrite:
            raise Refused
        if old is item and [*there, name] == path:
            return
        if isinstance(item, dict) and there[: len(path)] == path:
            raise Refused
        if isinstance(old, dict) and path[: len(there) + 1] == [*there, name]:
            raise Refused
        if move:
            del self.directory(path[:-1], make=False)[path[-1]]
        inside[name] = _copied(item)

    def rename(self, source: str, target: str, overwrite: bool) -> None:
        self.add(source, target, overwrite, move=True)

    def copy(self, source: str, target: str, overwrite: bool) -> None:
        self.add(source, target, overwrite, move=False)

    def save(self) -> None:
        pass


def _copied(item: Any) -> Any:
    return {name: _copied(each) for name, each in item.items()} if isinstance(item, dict) else item


def do(collection: Collection, kind: str, args: list[Any]) -> None:
    if kind == "write":
        with collection.open(args[0], "wb") as handle:
            handle.write(args[1])
    elif kind in ("rename", "copy"):
        getattr(collection, kind)(args[0], args[1], overwrite=args[2])
    else:
        getattr(collection, kind)(*args)


def contents(directory: Any) -> dict[str, Any]:
    return {
        name: item.readfrom(0, item.size()) if isinstance(item, ArvadosFile) else contents(item)
        for name, item in directory.items()
    }


@searching(full=2000)
@given(st.lists(OPERATIONS, max_size=25))
def test_tree_is_a_dictionary(operations: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        host = make_host(Path(name), None, make_catalog())
        collection, model = Collection(host=host), Model()
        collection.save_new("mine")
        for kind, *args in operations:
            try:
                getattr(model, kind)(*args)
                refused = False
            except Refused:
                refused = True
            with pytest.raises(ArvfuseError) if refused else nullcontext():
                do(collection, kind, args)
            assert contents(collection) == model.root
        collection.save()
        assert contents(Collection(collection.manifest_locator(), host=host)) == model.root
        host.close()
