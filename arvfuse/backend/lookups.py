"""What the engine asks about records, answered from the catalog.

Owns the files with manifest texts of catalogs that have none of their own. Threading: any thread. Failure: errors of
the catalog as they are; a change that was asked again by a restarted backend's engine and has been made is a success.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from arvfuse.backend.identities import resolve
from arvfuse.backend.indexing import Indexing
from arvfuse.backend.messages import Message, encode_record
from arvfuse.errors import ArgumentError, NameTaken, NoSuchRecord, StoreUnavailable
from arvfuse.model.apirecords import records_json
from arvfuse.model.collections import EMPTY_PDH, PDH, CollectionRecord, ProjectRecord, Version
from arvfuse.model.digests import md5
from arvfuse.model.manifests import Manifest
from arvfuse.model.manifestview import ManifestView
from arvfuse.model.merge import merge, to_json
from arvfuse.model.normalizing import pdh as pdh_of
from arvfuse.ports import Catalog
from arvfuse.sdk.mapped import map_file
from arvfuse.sdk.outcome import Outcome

_COLLECTION: Final = "4zz18"


class Lookups:
    """Answers to home, contents, find, by_id, open, content, index, record, mkdir, rename and trash."""

    def __init__(self, catalog: Catalog, directory: Path) -> None:
        self._catalog: Final = catalog
        self._texts: Final = directory / "manifests"
        self._indexing: Final = Indexing(self._texts)
        self._numbers: Final = itertools.count(1)
        self._answers: Final[Mapping[str, Callable[..., Message]]] = {
            "home": self._home,
            "contents": self._contents,
            "find": self._find,
            "index": self._index,
            "by_id": self._by_id,
            "content": self._content,
            "open": self._open,
            "record": self._record,
            "refresh": self._refresh,
            "resolve": self._resolve,
            "mkdir": self._mkdir,
            "rename": self._rename,
            "trash": self._trash,
        }

    def knows(self, op: str) -> bool:
        """True if *op* is one of ours."""
        return op in self._answers

    def answer(self, op: str, args: Mapping[str, Any], *, again: bool = False) -> Message:
        """The result of a request. *again*: a former backend may have done it already."""
        try:
            answer = self._answers[op]
        except KeyError:
            raise ArgumentError(f"no request {op!r}") from None
        return answer(again=again, **args)

    def find_record(self, identity: str) -> CollectionRecord | ProjectRecord:
        """The record of a uuid, or one that has or had the content of a portable data hash. NoSuchRecord."""
        if "+" in identity:
            found = self._catalog.find_by_pdh(PDH(identity))
            if found is None:
                raise NoSuchRecord(f"{identity}: no collection has that content")
            return found
        if identity.split("-")[1:2] == [_COLLECTION]:
            return self._catalog.get(identity)
        return self._catalog.get_project(identity)

    def manifest_path(self, pdh: PDH) -> Path:
        """A file that holds exactly the text of *pdh*."""
        path = self._catalog.manifest_path(pdh)
        if path is not None:
            return path
        path = self._texts / pdh
        if not path.exists():
            text = b"" if pdh == EMPTY_PDH else self._catalog.manifest(pdh)
            self._texts.mkdir(exist_ok=True)
            temporary = path.with_name(f"{pdh}.new")
            temporary.write_bytes(text)
            os.replace(temporary, path)
        return path

    def _home(self, *, again: bool) -> Message:
        return {"entry": encode_record(self._catalog.home())}

    def _contents(self, *, again: bool, owner: str) -> Message:
        return {"entries": [encode_record(record) for record in self._catalog.contents(owner)]}

    def _find(self, *, again: bool, owner: str, name: str) -> Message:
        found = self._catalog.find(owner, name)
        return {"entry": None if found is None else encode_record(found)}

    def _by_id(self, *, again: bool, id: str) -> Message:
        return {"entry": encode_record(self.find_record(id))}

    def _open(self, *, again: bool, id: str, version: int | None = None) -> Message:
        record = self.find_record(id) if version is None else self._catalog.get(id, version=Version(version))
        if isinstance(record, ProjectRecord):
            raise NoSuchRecord(f"{id}: a project, not a collection")
        return {"entry": encode_record(record), **self._prepared(self.manifest_path(record.pdh))}

    def _content(self, *, again: bool, file: str) -> Message:
        """As ``open``, of a text that no record has."""
        path = Path(file)
        try:
            digest = pdh_of(map_file(path))
        except OSError as error:
            raise StoreUnavailable(f"{file}: {error.strerror}; the content cannot be read") from error
        return {"pdh": digest, **self._prepared(path)}

    def _prepared(self, file: Path) -> Message:
        text, lines = self._indexing.prepared(file)
        return {"manifest": str(text), "lines": str(lines) if lines else None}

    def _index(self, *, again: bool, text: str, path: list[str]) -> Message:
        """A file with the names of a directory; names come as Latin-1 text, so that all bytes survive."""
        names = tuple(name.encode("latin-1") for name in path)
        return {"index": str(self._indexing.index_of(Path(text), names))}

    def _record(self, *, again: bool, uuid: str) -> Message:
        record = self.find_record(uuid)
        if isinstance(record, ProjectRecord):
            raise NoSuchRecord(f"{uuid}: a project, not a collection")
        shown = records_json(record, self.manifest_path(record.pdh).read_bytes())
        text = json.dumps(shown, indent=4, sort_keys=True).encode() + b"\n"
        digest = md5(text).hexdigest()
        self._texts.mkdir(exist_ok=True)
        # The engine maps the file and unlinks it: parsing many MiB there would hold every request up.
        path = self._texts / f"record-{os.getpid()}-{next(self._numbers)}"
        path.write_bytes(text)
        return {"text": str(path), "digest": digest}

    def _refresh(self, *, again: bool, tree: int, uuid: str, pdh: str) -> Message:
        """What turns the tree of *pdh*, unchanged here, into what the record is now: an outcome that was no commit."""
        record = self._catalog.get(uuid)
        effects: tuple[Any, ...] = ()
        if record.pdh != pdh:
            base, theirs = (Manifest(self.manifest_path(p).read_bytes()) for p in (PDH(pdh), record.pdh))
            found = merge(
                ManifestView(base),
                ManifestView(base),
                ManifestView(theirs, changed_ns=record.modified_at_ns),
                now_ns=record.modified_at_ns,
            )
            effects = tuple(to_json(effect) for effect in found)
        outcome = Outcome(
            tree=tree, seq=0, uuid=uuid, version=int(record.version), pdh=record.pdh, ours_pdh=pdh, effects=effects
        )
        return {"outcome": outcome.to_json()}

    def _resolve(self, *, again: bool, id: str) -> Message:
        """What a user calls a collection as what ``open`` takes."""
        found = resolve(self._catalog, id)
        if found.path:
            raise ArgumentError(f"{id}: a path in a collection; give the collection alone")
        return {"id": found.identity}

    def _mkdir(self, *, again: bool, owner: str, name: str) -> Message:
        try:
            return {"entry": encode_record(self._catalog.create(name=name, owner=owner))}
        except NameTaken:
            found = self._catalog.find(owner, name) if again else None
            if isinstance(found, CollectionRecord) and found.version == 1 and found.pdh == EMPTY_PDH:
                return {"entry": encode_record(found)}  # ours: the answer died with the former backend
            raise

    def _rename(self, *, again: bool, uuid: str, owner: str, name: str) -> Message:
        return {"entry": encode_record(self._catalog.update(uuid, name=name, owner=owner))}

    def _trash(self, *, again: bool, uuid: str) -> Message:
        try:
            self._catalog.trash(uuid)
        except NoSuchRecord:
            if not again:
                raise
        return {}
