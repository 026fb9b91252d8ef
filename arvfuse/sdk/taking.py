"""How a live tree takes in what a merge brought, deciding again against what changed here since the commit point.

The outcome is logged as one Merged record, so that a replay is mechanical (``replica.apply_effect``). Our newer
change keeps its name; what came from elsewhere goes to the conflict name (promise D6).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from arvfuse.model import records
from arvfuse.model.merge import Delete, Effect, MakeDir, Put, conflict_name, from_json, to_json
from arvfuse.model.ranges import SegmentMap
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.replica import apply_effect


class NameChange(NamedTuple):
    """A name whose meaning changed by a merge; *old*: the node that had it."""

    parent: DirNode
    name: bytes
    old: Node | None


def take_effects(tree: LiveTree, outcome: Outcome) -> list[NameChange]:
    """Bring what a merge changed into a live tree and its log. No lock held."""
    changes: list[NameChange] = []
    with tree.lock:
        now = tree.shared.clock.time_ns()
        logged: list[Any] = []
        for encoded in outcome.effects:
            for effect in _decide(tree, from_json(encoded), outcome.seq, now):
                parent_is_new = tree.find(effect.path[:-1]) is None
                kept = _bind_open(tree, effect.path)
                parent, name, old = apply_effect(tree, to_json(effect), now)
                if kept is not None:
                    kept.parent = None
                for each in old.loaded() if isinstance(old, DirNode) else ():
                    each.stamp = -1
                logged.append(to_json(effect))
                if not parent_is_new:
                    changes.append(NameChange(parent, name, old))
        seq = tree.log(records.Merged(outcome.version, outcome.pdh, tuple(logged)), now)
        tree.version, tree.pdh = outcome.version, outcome.pdh
    tree.shared.log.flush(seq)
    return changes


def _decide(tree: LiveTree, effect: Effect, seq: int, now_ns: int) -> list[Effect]:
    """The effect as it is, or what stands for it where we changed the same thing after *seq*."""
    above = _blocking_file(tree, effect.path)
    if above is not None:  # a file of ours stands where they have a directory
        return [_renamed(tree, effect, above, now_ns)] if isinstance(effect, Put) else []
    node = tree.find(effect.path)
    if isinstance(effect, MakeDir):
        return [] if node is not None else [effect]
    if isinstance(effect, Delete):
        return [] if node is None or _changed_since(node, seq) else [effect]
    if node is None or not _changed_since(node, seq):
        return [effect]
    if isinstance(node, FileNode) and node.segments == SegmentMap(effect.segments):
        return []
    return [_renamed(tree, effect, len(effect.path) - 1, now_ns)]


def _renamed(tree: LiveTree, effect: Put, index: int, now_ns: int) -> Put:
    """The effect below a conflict name for component *index* of its path."""
    head = effect.path[:index]
    parent = tree.find(head)
    taken = set(tree.table(parent)) if isinstance(parent, DirNode) else set()
    name = conflict_name(effect.path[index], now_ns)
    while name in taken:  # the next free second
        now_ns += 1_000_000_000
        name = conflict_name(effect.path[index], now_ns)
    return Put((*head, name, *effect.path[index + 1 :]), effect.segments)


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


def _changed_since(node: Node, seq: int) -> bool:
    if isinstance(node, FileNode):
        return node.changed_seq > seq
    return any(isinstance(each, FileNode) and each.changed_seq > seq for each in node.loaded())


def _bind_open(tree: LiveTree, path: Path) -> FileNode | None:
    """An open file that is about to lose its name gets its number bound first, so its handles go on."""
    node = tree.find(path)
    if isinstance(node, FileNode):
        if node.handles:
            tree.bind(node)
            return node
        tree.unsettled.pop(node.no, None)
    return None
