"""A manifest as one side of a merge.

Reads a directory when the merge asks for it. Confined to one thread, as the merge is; raises InvalidManifest where the
text is found to be bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from arvfuse.model.digests import blake2b
from arvfuse.model.manifests import Listing, Manifest
from arvfuse.model.merge import FileValue, View
from arvfuse.model.normalizing import Path, strip


class ManifestView:
    """Directory *path* of *manifest*, which has it. *changed_ns*: when the manifest was saved; all files get it."""

    __slots__ = ("_changed_ns", "_fingerprint", "_listing", "_manifest", "_path")

    def __init__(self, manifest: Manifest, path: Path = (), *, changed_ns: int = 0) -> None:
        self._manifest: Final = manifest
        self._path: Final = path
        self._changed_ns: Final = changed_ns
        self._listing: Listing | None = None
        self._fingerprint: bytes | None = None

    def fingerprint(self) -> bytes:
        """A digest of the lines, without hints: comparable between manifests, at the same path."""
        if self._fingerprint is None:
            self._fingerprint = blake2b(strip(self._manifest.subtree(self._path)), 32)
        return self._fingerprint

    def files(self) -> Mapping[bytes, FileValue]:
        """The files of this directory, by name."""
        found = self._entries().files
        return {name: FileValue.of(spec.segments(), self._changed_ns) for name, spec in found.items()}

    def dirs(self) -> Mapping[bytes, View]:
        """The subdirectories of this directory, by name."""
        path, changed_ns = self._path, self._changed_ns
        return {
            name: ManifestView(self._manifest, (*path, name), changed_ns=changed_ns) for name in self._entries().dirs
        }

    def _entries(self) -> Listing:
        if self._listing is None:
            self._listing = self._manifest.listing(self._path)
        return self._listing
