"""How a live tree takes in what a merge brought, deciding again against what changed here since the commit point.

The outcome is logged as one Merged record, so that a replay is mechanical (``replica.apply_effect``). Our newer
change keeps its name; what came from elsewhere goes to the conflict name (promise D6). A file that is open for writing
is never cut off from its name: what its writers write next would be lost in silence, so it goes on under a conflict
name, by a Rename record before the Merged one.

Where nothing of ours is in it, what we are then is the version that the outcome tells: that needs no commit, so the
next change from elsewhere can come at once.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final, NamedTuple

from arvfuse.model import records
from arvfuse.model.merge import Delete, Effect, MakeDir, Put, conflict_name, from_json, to_json
from arvfuse.model.ranges import SegmentMap
from arvfuse.sdk.entries import Entries, NeedsIndex
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.replica import apply_effect

_CONFLICT_END: Final = b"~conflict~"


class _Taken:
    """Names that are there, and names that will be."""

    def __init__(self, entries: Entries, coming: set[bytes]) -> None:
        self._entries: Final = entries
        self._coming: Final = coming

    def __contains__(self, name: object) -> bool:
        return name in self._coming or name in self._entries


class NameChange(NamedTuple):
    """A name whose meaning changed by a merge; *old*: the node that had it."""

    parent: DirNode
    name: bytes
    old: Node | None


def read_here(directory: DirNode) -> None:
    """Get the names of a big directory in this process."""
    assert isinstance(directory.tree, LiveTree)
    directory.tree.read_directory(directory)


def take_effects(tree: LiveTree, outcome: Outcome, read: Callable[[DirNode], None] = read_here) -> list[NameChange]:
    """Bring what a merge changed into a live tree and its log. No lock held.

    *read* gets the names of a big directory and waits for them."""
    changes: list[NameChange] = []
    effects = [from_json(encoded) for encoded in outcome.effects]
    while isinstance(taken := _take(tree, outcome, effects, changes), DirNode):
        read(taken)
    tree.shared.flush(taken)
    return changes


def _take(tree: LiveTree, outcome: Outcome, effects: list[Effect], changes: list[NameChange]) -> DirNode | int:
    """The number of the record; nothing is done yet if a directory is to be read before: that one."""
    with tree.lock:
        for each in effects:
            unread = _unread(tree, each.path)
            if unread is not None:
                return unread
        now = tree.shared.clock.time_ns()
        is_theirs = tree.kind == "record" and tree.changed_seq <= outcome.seq == tree.asof
        logged: list[Any] = []
        for each in effects:
            aside = _set_aside(tree, each, effects, outcome.seq, now)
            is_theirs = is_theirs and not aside
            changes.extend(aside)
        for each in effects:
            for effect in _decide(tree, each, outcome.seq, now):
                above = _first_missing(tree, effect.path)
                kept = _bind_open(tree, effect.path)
                parent, name, old = apply_effect(tree, to_json(effect), now)
                if kept is not None:
                    kept.parent = None
                for below in old.loaded() if isinstance(old, DirNode) else ():
                    below.stamp = -1
                logged.append(to_json(effect))
                changes.append(NameChange(parent, name, old) if above is None else NameChange(*above, None))
        seq = tree.log(records.Merged(outcome.version, outcome.pdh, tuple(logged)), now)
        tree.version, tree.pdh = outcome.version, outcome.pdh
        if is_theirs and logged == [to_json(each) for each in effects]:
            tree.stand_on(seq, outcome.pdh)
    return seq


def _unread(tree: LiveTree, path: Path) -> DirNode | None:
    """The first directory on the way to *path*, or there, of which the names have to be fetched."""
    node: Node | None = tree.root
    for name in (*path, None):
        if not isinstance(node, DirNode):
            return None
        try:
            entries = tree.table(node)
        except NeedsIndex as needed:
            return needed.directory
        node = entries.get(name) if name is not None else None
    return None


def _first_missing(tree: LiveTree, path: Path) -> tuple[DirNode, bytes] | None:
    """The directory and name at which *path* ends too early; None if only its last component may be missing."""
    directory = tree.root
    for name in path[:-1]:
        node = tree.table(directory).get(name)
        if not isinstance(node, DirNode):
            return directory, name
        directory = node
    return None


def _set_aside(tree: LiveTree, effect: Effect, effects: list[Effect], seq: int, now_ns: int) -> list[NameChange]:
    """Move a file that is open for writing, and that *effect* would replace, to its conflict name."""
    if not isinstance(effect, Put):
        return []
    parent = None if _blocking_file(tree, effect.path) is not None else tree.find(effect.path[:-1])
    name = effect.path[-1]
    node = tree.table(parent).get(name) if isinstance(parent, DirNode) else None
    if not isinstance(parent, DirNode) or not isinstance(node, FileNode) or not node.writers:
        return []
    if node.segments == SegmentMap(effect.segments) or _changed_since(tree, effect.path, node, seq):
        return []
    taken = _Taken(tree.table(parent), {each.path[-1] for each in effects if each.path[:-1] == effect.path[:-1]})
    aside = next((each.path[-1] for each in effects if _keeps(each, effect.path, node)), None)
    if aside is None or aside in tree.table(parent):
        aside = _free_name(name, taken, now_ns)
    tree.bind(parent)
    tree.log(records.Rename(parent.no, name, parent.no, aside), now_ns)
    tree.move_entry(parent, name, parent, aside, now_ns)
    return [NameChange(parent, name, node), NameChange(parent, aside, None)]


def _keeps(effect: Effect, path: Path, node: FileNode) -> bool:
    """True if *effect* is the merge's own way to keep what we have at *path*."""
    return (
        isinstance(effect, Put)
        and effect.path[:-1] == path[:-1]
        and effect.path[-1] != path[-1]
        and effect.path[-1].endswith(_CONFLICT_END)
        and node.segments == SegmentMap(effect.segments)
    )


def _decide(tree: LiveTree, effect: Effect, seq: int, now_ns: int) -> list[Effect]:
    """The effect as it is, or what stands for it where we changed the same thing after *seq*."""
    above = _blocking_file(tree, effect.path)
    if above is not None:  # a file of ours stands where they have a directory
        return [_renamed(tree, effect, above, now_ns)] if isinstance(effect, Put) else []
    node = tree.find(effect.path)
    if isinstance(effect, MakeDir):
        return [] if node is not None else [effect]
    if isinstance(effect, Delete):
        return [] if node is None or _changed_since(tree, effect.path, node, seq) else [effect]
    if isinstance(node, FileNode) and node.segments == SegmentMap(effect.segments):
        return []
    if node is None or not _changed_since(tree, effect.path, node, seq):
        return [effect]
    return [_renamed(tree, effect, len(effect.path) - 1, now_ns)]


def _renamed(tree: LiveTree, effect: Put, index: int, now_ns: int) -> Put:
    """The effect below a conflict name for component *index* of its path."""
    head = effect.path[:index]
    parent = tree.find(head)
    taken = tree.table(parent) if isinstance(parent, DirNode) else ()
    name = _free_name(effect.path[index], taken, now_ns)
    return Put((*head, name, *effect.path[index + 1 :]), effect.segments)


def _free_name(name: bytes, taken: Container[bytes], now_ns: int) -> bytes:
    """The conflict name of the next free second."""
    while (found := conflict_name(name, now_ns)) in taken:
        now_ns += 1_000_000_000
    return found


def _blocking_file(tree: LiveTree, path: Path) -> int | None:
    """The index of the component above the last at which a file stands."""
    node: Node = tree.root
    for index, name in enumerate(path[:-1]):
        if not isinstance(node, DirNode):
            return index - 1
        found = tree.table(node).get(name)
        if found is None:
            return None
        if isinstance(found, FileNode):
            return index
        node = found
    return None


def _changed_since(tree: LiveTree, path: Path, node: Node, seq: int) -> bool:
    """Whether *node*, at *path*, is not what stood there at record *seq*: changed, or come there with a directory.

    A merge empties a directory before it lets it go, so what is in one is news."""
    if isinstance(node, FileNode) and node.changed_seq > seq:
        return True
    if isinstance(node, DirNode) and not tree.is_empty(node):
        return True
    directory: Node = tree.root
    for name in path:
        assert isinstance(directory, DirNode)
        directory = tree.table(directory)[name]
        if isinstance(directory, DirNode) and directory.placed_seq > seq:
            return True
    return False


def _bind_open(tree: LiveTree, path: Path) -> FileNode | None:
    """An open file that is about to lose its name gets its number bound first, so its handles go on."""
    node = tree.find(path)
    if isinstance(node, FileNode):
        if node.handles:
            tree.bind(node)
            return node
        tree.unsettled.pop(node.no, None)
    return None
