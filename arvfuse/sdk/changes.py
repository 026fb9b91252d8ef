"""The difference between two directories as a list of changes, and what applying it does.

Changes hold the items of the two collections; contents are compared, not how they are cut into blocks, so there are no
false conflicts. "tok" is said only where hints of locators differ. Who applies changes keeps what was changed here
too, and puts the other content beside it under a conflict name (promise D6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from arvfuse.errors import ArgumentError, NotADirectory
from arvfuse.sdk import events
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.sdk.paths import free_conflict_path

if TYPE_CHECKING:
    from arvfuse.sdk.directory import CollectionBase

Change = tuple[Any, ...]


def find_changes(start: CollectionBase, end: CollectionBase, prefix: str) -> list[Change]:
    """What turns *start* into *end*: all deletions of a directory, then the rest in order of names."""
    return list(_changes(start, end, prefix))


def _changes(start: CollectionBase, end: CollectionBase, prefix: str) -> Iterator[Change]:
    if start.node is end.node:
        return
    before, after = dict(start.items()), dict(end.items())
    for name, item in before.items():
        if name not in after:
            yield events.DEL, f"{prefix}/{name}", item
    for name, item in after.items():
        path = f"{prefix}/{name}"
        if name not in before:
            yield events.ADD, path, item
            continue
        old = before[name]
        if not isinstance(old, ArvadosFile) and not isinstance(item, ArvadosFile):
            yield from _changes(old, item, path)
        elif type(old) is not type(item) or old != item:
            yield events.MOD, path, old, item
        elif old.segments() != item.segments():
            yield events.TOK, path, old, item


def apply_changes(target: CollectionBase, changes: list[Change], now_ns: int) -> None:
    """Make *changes* in *target*. ArgumentError for what is no change; then those before it are made."""
    for change in changes:
        kind, path, *items = change
        if path.startswith("./"):
            path = path[2:]
        local = _find(target, path)
        if kind == events.ADD and len(items) == 1:
            if local is None:
                target.copy(items[0], _free_place(target, path, now_ns))
            elif local != items[0]:
                _keep_aside(target, path, items[0], now_ns)
        elif kind == events.MOD and len(items) == 2:
            _modify(target, path, local, items[0], items[1], now_ns)
        elif kind == events.TOK and len(items) == 2:
            if isinstance(local, ArvadosFile) and local == items[0]:
                local.replace_contents(items[1])
        elif kind == events.DEL and len(items) == 1:
            if local is not None and local == items[0]:
                target.remove(path, recursive=True)
        else:
            raise ArgumentError(f"{kind!r}: not a change")


def _modify(target: CollectionBase, path: str, local: Any, old: Any, new: Any, now_ns: int) -> None:
    if local is None:
        target.copy(new, _free_place(target, path, now_ns))  # deleted here, changed there: the change survives
    elif local == new:
        return
    elif local == old:
        if isinstance(local, ArvadosFile) and isinstance(new, ArvadosFile):
            local.replace_contents(new)
        else:
            target.copy(new, path, overwrite=True)
    else:
        _keep_aside(target, path, new, now_ns)


def _keep_aside(target: CollectionBase, path: str, item: Any, now_ns: int) -> None:
    target.copy(item, free_conflict_path(path, now_ns, lambda name: _find(target, name) is not None))


def _free_place(target: CollectionBase, path: str, now_ns: int) -> str:
    """*path*, below a conflict name where a file of ours stands in the place of a directory."""
    *names, last = path.split("/")
    place = ""
    for name in names:
        place = f"{place}/{name}" if place else name
        if isinstance(_find(target, place), ArvadosFile):
            place = free_conflict_path(place, now_ns, lambda path: isinstance(_find(target, path), ArvadosFile))
    return f"{place}/{last}" if place else last


def _find(target: CollectionBase, path: str) -> Any:
    """What is at *path*; None also where a file stands in the way."""
    try:
        return target.find(path)
    except NotADirectory:
        return None
