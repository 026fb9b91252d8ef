"""The committer's merge: what a save does when the record moved since the version it builds on (promise D6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from arvfuse.errors import ArvfuseError
from arvfuse.model.collections import PDH
from arvfuse.model.manifests import Manifest
from arvfuse.model.manifestview import ManifestView
from arvfuse.model.merge import FileValue, View, merge, to_json
from arvfuse.ports import Catalog
from arvfuse.sdk.nodes import DirNode, Path
from arvfuse.sdk.replica import ReplicaTree, apply_effect
from arvfuse.sdk.tree import Tree


class TextsAhead:
    """Manifests that a merge is about to need, read while the data of ours are stored. Confined to one commit at a
    time; load() runs in a thread of its own beside it."""

    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog: Final = catalog
        self._texts: dict[PDH, bytes] = {}

    def load(self, trees: Iterable[ReplicaTree]) -> None:
        """Read what the records of *trees* have become, where they moved. What cannot be read is read again by whoever
        needs it, who says why it fails."""
        self._texts = {}
        if self._catalog is None:
            return
        for tree in trees:
            if tree.uuid is None:
                continue
            with suppress(ArvfuseError):
                theirs = self._catalog.get(tree.uuid).pdh
                if theirs != tree.merge_base:
                    for pdh in (theirs, PDH(tree.merge_base)):
                        self._texts[pdh] = self._catalog.manifest(pdh)

    def drop(self) -> None:
        """The commit is over."""
        self._texts = {}

    def take(self, pdh: PDH) -> bytes | None:
        """The text, once; None if it was not read."""
        return self._texts.pop(pdh, None)


class _OursView(ManifestView):
    """The text of a tree, whose files know when they were changed."""

    __slots__ = ("_at", "_ours", "_tree")

    def __init__(self, manifest: Manifest, tree: Tree, path: Path = ()) -> None:
        super().__init__(manifest, path)
        self._ours: Final = manifest
        self._tree: Final = tree
        self._at: Final = path

    def files(self) -> Mapping[bytes, FileValue]:
        directory = self._tree.find(self._at)
        entries = self._tree.table(directory) if isinstance(directory, DirNode) else None
        found: dict[bytes, FileValue] = {}
        for name, value in super().files().items():
            changed_ns = entries.changed_ns(name) if entries is not None else 0
            found[name] = value._replace(changed_ns=changed_ns)
        return found

    def dirs(self) -> Mapping[bytes, View]:
        return {name: _OursView(self._ours, self._tree, (*self._at, name)) for name in super().dirs()}


def merged_text(
    *, base: Manifest, ours: Tree, ours_text: bytes, theirs: Manifest, theirs_ns: int, now_ns: int
) -> tuple[bytes, tuple[Any, ...], set[str]]:
    """(text of the merged tree, effects that turn ours into it, zero blocks that the text names for holes)."""

    effects = merge(
        ManifestView(base),
        _OursView(Manifest(ours_text), ours),
        ManifestView(theirs, changed_ns=theirs_ns),
        now_ns=now_ns,
    )
    if not effects:
        return ours_text, (), set()
    merged = Tree(Manifest(ours_text), reserve=lambda count: 0)
    encoded = tuple(to_json(effect) for effect in effects)
    for effect in encoded:
        apply_effect(merged, effect, now_ns)
    text, zeros = merged.render()
    return text, encoded, zeros
