"""Collections as the library's users know them: made of nothing, of a manifest text, or of a record.

A collection is a live tree of a host (a session's, or one of its own in a temporary directory). ``save`` and
``save_new`` are the only ways to a record; a save merges with what others saved meanwhile (promise D6). Texts are
made by commits that store blocks and save nothing. Threading: any thread; no lock is held over a commit but the
host's. Failure: what raised changed no record, and can be repeated.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from arvfuse.clock import SystemClock
from arvfuse.errors import ArgumentError, InvalidManifest, NoSuchRecord, ReadOnly
from arvfuse.model.apirecords import records_json
from arvfuse.model.collections import EMPTY_PDH, PDH, CollectionRecord
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import normalize as normalized
from arvfuse.model.normalizing import pdh as pdh_of
from arvfuse.model.normalizing import strip as stripped
from arvfuse.model.rendering import move_lines
from arvfuse.model.savecheck import check_for_save
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.sdk import copying
from arvfuse.sdk.ahead import PREFETCH_THREADS
from arvfuse.sdk.attributes import check_attributes, to_datetime, to_ns
from arvfuse.sdk.directory import Callback, CollectionBase, Subcollection
from arvfuse.sdk.events import COLLECTION, FILE  # users look for them here
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.sdk.host import Host, temporary_host
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.paths import PDH_RULE, UUID_RULE, decode, split
from arvfuse.sdk.putpool import PUT_THREADS

__all__ = ["COLLECTION", "FILE", "Collection", "CollectionReader"]

UNNAMED: Final = "New collection"
_SETTLING_TRIES: Final = 5  # saves in a row that may each have to merge something


class Collection(CollectionBase):
    """A collection that can be changed.

    *manifest_locator_or_text*: nothing for an empty one, a portable data hash, a collection's uuid, or a manifest's
    text. *api_client*: a ``ports.Catalog``; *keep_client*: a ``ports.BlockStore``; both come from *host* if that is
    given. Without a catalog there are no records, without a store no data."""

    def __init__(
        self,
        manifest_locator_or_text: str | None = None,
        api_client: Catalog | None = None,
        keep_client: BlockStore | None = None,
        num_retries: int = 10,
        parent: None = None,
        apiconfig: None = None,
        block_manager: None = None,
        replication_desired: int | None = None,
        storage_classes_desired: Sequence[str] | None = None,
        put_threads: int | None = None,
        *,
        host: Host | None = None,
        clock: Clock | None = None,
        num_prefetch_threads: int | None = None,
    ) -> None:
        if parent is not None or apiconfig is not None or block_manager is not None:
            raise ArgumentError("parent, apiconfig and block_manager are not used here: hand in a catalog and a store")
        if storage_classes_desired is not None and not isinstance(storage_classes_desired, list):
            raise ArgumentError("storage_classes_desired is to be a list")
        self._catalog: Final = api_client if api_client is not None else host.catalog if host is not None else None
        self._locator: Final = manifest_locator_or_text or None
        record, manifest, known = self._load(self._locator)
        self._owns_host: Final = host is None
        if host is None:
            threads = put_threads if put_threads is not None else PUT_THREADS
            ahead = num_prefetch_threads if num_prefetch_threads is not None else PREFETCH_THREADS
            host = temporary_host(
                keep_client, self._catalog, clock or SystemClock(), put_threads=threads, num_prefetch_threads=ahead
            )
        self.host: Final = host
        tree = host.open_tree(record, manifest, writable=self.writable(), known=known)
        super().__init__(tree.root)
        weakref.finalize(self, host.abandon, tree)
        self._items: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
        self._callbacks: Final[dict[int, Callback]] = {}
        self._state: Final = threading.Lock()
        self._record = record  # guarded by: _state, as all below
        self._text: Any = manifest.text if manifest is not None else b""
        self._text_seq = tree.changed_seq  # the text says what the tree is as of this record
        self._saved_seq = tree.changed_seq if manifest is not None else -1
        self._replication = replication_desired or (record.replication if record is not None else None)
        self._classes = list(storage_classes_desired or (record.storage_classes if record is not None else ()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.manifest_locator()} {'committed' if self.committed() else 'modified'}>"

    def root_collection(self) -> Collection:
        return self

    def writable(self) -> bool:
        return True

    def committed(self) -> bool:
        with self._state:
            return self._tree.changed_seq <= self._saved_seq

    # what the catalog knows

    def manifest_locator(self) -> str | None:
        """The uuid; else the data hash that the collection was opened by; else None."""
        with self._state:
            if self._record is not None:
                return self._record.uuid
        return self._locator if self._locator is not None and PDH_RULE.fullmatch(self._locator) else None

    def api_response(self) -> dict[str, Any] | None:
        """The record as the API writes it, as of the last load or save; None without one."""
        with self._state:
            return records_json(self._record) if self._record is not None else None

    def get_properties(self) -> dict[str, Any]:
        """A copy of the properties."""
        with self._state:
            return dict(self._record.properties) if self._record is not None else {}

    def get_trash_at(self) -> datetime | None:
        """When the record goes to the trash, in UTC."""
        with self._state:
            at_ns = self._record.trash_at_ns if self._record is not None else None
        return to_datetime(at_ns)

    def storage_classes_desired(self) -> list[str]:
        """The storage classes."""
        with self._state:
            return list(self._classes)

    # saving

    def save(
        self,
        properties: Mapping[str, Any] | None = None,
        storage_classes: Sequence[str] | None = None,
        trash_at: datetime | None = None,
        merge: bool = True,
        num_retries: int | None = None,
        preserve_version: bool = False,
    ) -> str:
        """Save what changed as the next version of the record, merged with what others saved; the text.

        With *merge* false, CommitConflict if the record moved. *preserve_version* keeps the version before. Without a
        uuid: the builtin AssertionError. NoSuchRecord, InvalidManifest, errors of store and catalog."""
        check_attributes(properties, storage_classes, trash_at)
        self._check_writable()
        with self._state:
            record = self._record
        if record is None or self._catalog is None:
            raise AssertionError("Collection manifest_locator is not a collection uuid. Use save_new() for new ones.")
        if self.modified():
            self._catalog.get(record.uuid)
            # Lines that the record has already are not looked at again: that would take seconds for a million files.
            check_for_save(_fresh_lines(self._current_text(), self._base_text()))
            for _ in range(_SETTLING_TRIES):
                [outcome] = self.host.commit([self._tree], merge=merge, keep_previous=preserve_version)
                self._took(outcome, self._catalog.get(record.uuid))
                if outcome.quarantined is not None:
                    raise NoSuchRecord(outcome.quarantined)
                if not outcome.effects:
                    break  # else what the merge brought is to be covered, too
        if properties is not None or storage_classes is not None or trash_at is not None:
            changed = self._catalog.update(
                record.uuid, properties=properties, storage_classes=storage_classes, trash_at_ns=to_ns(trash_at)
            )
            with self._state:
                self._record = changed
                self._classes = list(changed.storage_classes)
        if self.committed():
            self.host.saved(self._tree)
        return self.manifest_text()

    def save_new(
        self,
        name: str | None = None,
        create_collection_record: bool = True,
        owner_uuid: str | None = None,
        properties: Mapping[str, Any] | None = None,
        storage_classes: Sequence[str] | None = None,
        trash_at: datetime | None = None,
        ensure_unique_name: bool = False,
        num_retries: int | None = None,
        preserve_version: bool = False,
    ) -> str:
        """Save to a new record, which is this collection's from now on; the text. Without *name* a free one is found.

        With *create_collection_record* false only the blocks are stored. NameTaken, InvalidManifest."""
        check_attributes(properties, storage_classes, trash_at)
        self._check_writable()
        text, seq = self._text_and_seq()
        self.host.store.barrier()
        if not create_collection_record:
            return _text(text)
        if self._catalog is None:
            raise ArgumentError("there is no catalog to save to: hand one in (api_client)")
        check_for_save(text)
        record = self._catalog.create(
            name=name if name is not None else UNNAMED,
            owner=owner_uuid,
            manifest=text,
            properties=properties,
            ensure_unique_name=ensure_unique_name or name is None,
            trash_at_ns=to_ns(trash_at),
            storage_classes=storage_classes if storage_classes is not None else self.storage_classes_desired() or None,
            replication=self._replication,
        )
        self.host.bind(self._tree, record)
        with self._state:
            self._record = record
            self._classes = list(record.storage_classes)
            self._saved_seq = max(self._saved_seq, seq)
        if self.committed():
            self.host.saved(self._tree)
        return _text(text)

    def update(self, other: CollectionBase | None = None, num_retries: int | None = None) -> None:
        """Take in what the record (or *other*) has become since it was loaded; changes of ours are kept.

        ArgumentError if there is neither."""
        self._check_writable()
        if other is not None:
            start: Any = self
            if self.modified():
                start = self._sibling(self._base_text())
            self.apply(start.diff(other))
            return
        with self._state:
            record = self._record
        if record is None or self._catalog is None:
            if self._locator is not None and PDH_RULE.fullmatch(self._locator):
                return  # content never changes under a hash
            raise ArgumentError("update() needs a collection with a record, or another collection")
        fresh = self._catalog.get(record.uuid)
        if fresh.pdh != record.pdh:
            [outcome] = self.host.commit([self._tree], save=False)
            self._took(outcome, fresh)
            if outcome.effects:
                self._current_text()
        with self._state:
            self._record = fresh

    def flush(self, sync: bool = True) -> None:
        """Store all that was written, without saving a record."""
        self._current_text()

    def clone(
        self, new_parent: None = None, new_name: str | None = None, readonly: bool = False, new_config: None = None
    ) -> Collection:
        """A new collection with the same content, bound to no record. With *readonly*, a CollectionReader."""
        twin = self._sibling(self._current_text(), readonly=readonly)
        if not readonly:
            with twin._state:
                twin._saved_seq = -1
        return twin

    # texts

    def manifest_text(
        self, stream_name: str = ".", strip: bool = False, normalize: bool = False, only_committed: bool = False
    ) -> str:
        """The manifest: as it was loaded if nothing changed and *normalize* is not asked. Stores blocks first, unless
        *only_committed*, which leaves out bytes that are in no block yet."""
        return self.text_of((), stream_name, strip=strip, normalize=normalize, only_committed=only_committed)

    def portable_manifest_text(self, stream_name: str = ".") -> str:
        """The manifest without hints, in normal form."""
        return self.manifest_text(stream_name, strip=True, normalize=True)

    def stripped_manifest(self) -> str:
        """The manifest without hints, not otherwise changed."""
        return self.manifest_text(strip=True)

    def portable_data_hash(self) -> str:
        """The record's hash, or that it was opened by, if nothing changed; else that of the portable text."""
        if self.committed():
            with self._state:
                if self._record is not None:
                    return str(self._record.pdh)
            if self._locator is not None and PDH_RULE.fullmatch(self._locator):
                return "+".join(self._locator.split("+")[:2])
        return pdh_of(normalized(self._current_text(), strip=True))

    def text_of(
        self, path: Path, stream_name: str, *, strip: bool, normalize: bool, only_committed: bool = False
    ) -> str:
        """The text of directory *path* and all below it, as stream *stream_name*."""
        text = self._committed_text() if only_committed else self._current_text()
        new = () if stream_name == "." else split(stream_name.removeprefix("./"))[0]
        if path != new:
            text = move_lines(Manifest(text).subtree(path), path, new)
        elif path:
            text = bytes(Manifest(text).subtree(path))
        if normalize:
            text = normalized(text, strip=strip)
        elif strip:
            text = stripped(text)
        return _text(text)

    def pdh_of_directory(self, path: Path) -> str:
        """The hash that directory *path* has as a collection."""
        text = move_lines(Manifest(self._current_text()).subtree(path), path, ())
        return pdh_of(normalized(text, strip=True))

    def has_remote_blocks(self) -> bool:
        """Whether a locator carries the signature of another cluster."""
        return b"+R" in self._current_text()

    # life

    def stop_threads(self) -> None:
        """End the put threads; they come back when there is something to store."""
        self.host.rest()

    def close(self) -> None:
        """Give back what the collection holds. What is not saved is dropped; the object is of no use any more."""
        if self._owns_host:
            self.host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Save if nothing was raised and there is a record to save to."""
        if kind is None and self.writable() and self._record is not None:
            self.save()
        self.stop_threads()

    # paths of a root may begin with ./

    def find(self, path: str) -> Any:
        """What is at *path*; ``.`` is the collection itself."""
        return self if path == "." else super().find(path)

    def find_or_create(self, path: str, create_type: str) -> Any:
        return self if path == "." else super().find_or_create(path, create_type)

    def _relative(self, path: str) -> str:
        return path.removeprefix("./")

    # for items

    def item_of(self, node: Node) -> Any:
        """The item of *node*; the same while somebody holds it."""
        item = self._items.get(node.no)
        if item is None or item.node is not node:
            if node is self.node:
                return self
            item = ArvadosFile(self, node) if isinstance(node, FileNode) else Subcollection(self, node)
            self._items[node.no] = item
        return item

    def directory_of(self, node: DirNode) -> Any:
        """The item of a directory."""
        return self.item_of(node)

    def make_copy(self, source: Any, above: DirNode, name: bytes, *, replace: bool) -> Node:
        """Copy *source* to *name* in *above*; the new node."""
        return copying.make_copy(self, source, above, name, replace=replace)

    def copy_content(self, source: ArvadosFile, node: FileNode) -> None:
        """Let the file *node* have the content of *source*."""
        copying.copy_content(self, source, node)

    def subscribe_node(self, node: DirNode, callback: Callback) -> None:
        if node.no in self._callbacks:
            raise ArgumentError("there is a subscription already")
        self._callbacks[node.no] = callback

    def unsubscribe_node(self, node: DirNode) -> None:
        self._callbacks.pop(node.no, None)

    def emit(self, event: str, node: Node | None, item: Any, at: tuple[DirNode, bytes] | None = None) -> None:
        """Tell the subscribers of the entry's directory and those of the collection. No lock is held."""
        if not self._callbacks:
            return
        if at is None:
            if node is None or node.parent is None:
                return
            at = node.parent, node.name
        directory, name = at
        for no in dict.fromkeys((directory.no, self.node.no)):
            callback = self._callbacks.get(no)
            if callback is not None:
                callback(event, self.directory_of(directory), decode(name), item)

    # texts and state

    def _load(self, what: str | None) -> tuple[CollectionRecord | None, Manifest | None, bool]:
        """(record, manifest, whether the catalog has its text) of the first argument."""
        if what is None:
            return None, None, False
        if not isinstance(what, str):
            raise ArgumentError("the first argument is to be a portable data hash, a uuid or a manifest text")
        if PDH_RULE.fullmatch(what) or UUID_RULE.fullmatch(what):
            if self._catalog is None:
                raise ArgumentError(f"{what}: there is no catalog to look it up in: hand one in (api_client)")
            if UUID_RULE.fullmatch(what):
                record = self._catalog.get(what)
                return record, self._manifest_of(self._catalog, record.pdh), True
            return None, self._manifest_of(self._catalog, PDH("+".join(what.split("+")[:2]))), True
        try:
            return None, Manifest(what.encode("utf-8", "surrogateescape")), False
        except InvalidManifest as exc:
            raise ArgumentError(f"not a manifest or a collection uuid: {exc}") from exc

    def _manifest_of(self, catalog: Catalog, pdh: PDH) -> Manifest:
        return Manifest(catalog.manifest(pdh) if pdh != EMPTY_PDH else b"")

    def _check_writable(self) -> None:
        if not self.writable():
            raise ReadOnly()

    def _text_and_seq(self) -> tuple[bytes, int]:
        """The text of the tree as it is now, whose blocks are stored, and the record up to which it says that."""
        with self._state:
            text, seq = self._text, self._text_seq
        if self._tree.changed_seq > seq:
            [outcome] = self.host.commit([self._tree], save=False, merge=False)
            self._took(outcome, None)
            text, seq = outcome.text, outcome.seq
        return bytes(text), seq

    def _current_text(self) -> bytes:
        return self._text_and_seq()[0]

    def _committed_text(self) -> bytes:
        """The text of what is in blocks already."""
        with self._state:
            if self._tree.changed_seq <= self._text_seq:
                return bytes(self._text)
        with self._tree.lock:
            return self._tree.render(copying.committed_parts)[0]

    def _base_text(self) -> bytes:
        """What the record had when it was loaded or saved last; nothing for a new collection."""
        with self._state:
            record = self._record
        if record is not None and self._catalog is not None:
            return self._catalog.manifest(record.pdh)
        return b"" if self._locator is None else bytes(self._loaded_text())

    def _loaded_text(self) -> bytes:
        assert self._locator is not None
        if PDH_RULE.fullmatch(self._locator):
            assert self._catalog is not None
            return self._catalog.manifest(PDH("+".join(self._locator.split("+")[:2])))
        return self._locator.encode("utf-8", "surrogateescape")

    def _took(self, outcome: Outcome, record: CollectionRecord | None) -> None:
        """Remember what a commit made, and the *record* that we know now."""
        with self._state:
            if record is not None:
                self._record = record
            if not outcome.effects and outcome.seq >= self._text_seq:
                self._text, self._text_seq = outcome.text, outcome.seq
                if self._record is not None and pdh_of(outcome.text) == self._record.pdh:
                    self._saved_seq = outcome.seq

    def _sibling(self, text: bytes, *, readonly: bool = False) -> Collection:
        """A collection of the same store on *text*."""
        kind = CollectionReader if readonly else Collection
        host = self.host
        what = _text(text)
        if self._owns_host:
            threads = host.num_prefetch_threads
            return kind(what, self._catalog, host.store, clock=host.clock, num_prefetch_threads=threads)
        return kind(what, self._catalog, host=host)


class CollectionReader(Collection):
    """A collection that cannot be changed: every mutator raises ReadOnly."""

    def writable(self) -> bool:
        return False


def _fresh_lines(text: bytes, base: bytes) -> bytes:
    """The lines of *text* that *base* does not have."""
    known = set(base.split(b"\n"))
    return b"".join(line + b"\n" for line in text.split(b"\n") if line not in known)


def _text(text: bytes | memoryview) -> str:
    return str(text, "utf-8", "surrogateescape")
