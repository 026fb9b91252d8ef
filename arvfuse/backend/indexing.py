"""The backend makes the indexes of long texts and of big directories, so that the engine reads and parses neither.

An index lies beside its manifest text in the store, or in the mount's own directory where the store cannot be written
(or has no texts as files); so does a text in normal form where the given one is not. What is there is read once and
compared with its check; what does not match is made again. Owns the texts that it has open. Threading: any thread; two
that want the same index make it twice. Failure: InvalidManifest for what cannot be understood, StoreUnavailable where
neither place can be read or written. Who is told of an index has a day to map it (`sweeping`).
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from arvfuse.backend.sweeping import mark_used
from arvfuse.errors import ArvfuseError, Damaged, StoreUnavailable
from arvfuse.model.lineindex import encode_lines
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.mapped import index_key, index_name, lines_key, map_file, open_index, open_manifest, write_file
from arvfuse.sdk.nodes import Path as NodePath
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)

_OPEN_TEXTS: Final = 4
_SMALL_TEXT_BYTES: Final = 1 << 18  # whoever opens it scans it in about a millisecond
_NORMAL: Final = ".normal"
_LINES: Final = ".lines"
_OF_STORE: Final = re.compile(rf"[0-9a-f]{{32}}\+[0-9]+({re.escape(_NORMAL)})?")


class Indexing:
    """Indexes for one mount; *own* is a directory of the mount for what cannot lie in the store."""

    def __init__(self, own: Path) -> None:
        self._own: Final = own
        self._lock: Final = RankedLock(Rank.LEAF)
        self._texts: OrderedDict[Path, Manifest] = OrderedDict()  # guarded by: _lock; the last few

    def prepared(self, text: Path) -> tuple[Path, Path | None]:
        """(file with the text in normal form, its line index) of the manifest in file *text*; the index is None where
        a scan does as well, or where there is no place for it. InvalidManifest."""
        with _translated(text):
            if text.stat().st_size <= _SMALL_TEXT_BYTES:
                return text, None
            for directory in self._places(text):
                for each in (text, directory / f"{text.name}{_NORMAL}"):
                    lines = directory / f"{each.name}{_LINES}"
                    if self._is_opened(each, lines):
                        return each, lines
            manifest = Manifest(map_file(text), str(text))
        try:
            return self._write_lines(text, manifest)
        except StoreUnavailable as error:
            log.warning("%s", error)
            return text, None

    def index_of(self, text: Path, path: NodePath) -> Path:
        """A file with the index of directory *path* of the manifest in file *text*."""
        key, name = index_key(text, path), index_name(text, path)
        places = [directory / name for directory in self._places(text)]
        for place in places:
            if _is_good(place, key):
                mark_used(place)
                return place
        with _translated(text):
            data = self._open(text).index_bytes(path, key)
        return _write_first(places, data)

    def _places(self, text: Path) -> list[Path]:
        """Where files about *text* may lie, the best first."""
        return [text.parent, self._own] if _OF_STORE.fullmatch(text.name) else [self._own]

    def _open(self, text: Path) -> Manifest:
        with self._lock:
            known = self._texts.get(text)
        return known if known is not None else self._keep(open_manifest(text))

    def _keep(self, manifest: Manifest) -> Manifest:
        with self._lock:
            self._texts[Path(manifest.origin)] = manifest
            while len(self._texts) > _OPEN_TEXTS:
                self._texts.popitem(last=False)
        return manifest

    def _is_opened(self, text: Path, lines: Path) -> bool:
        """Whether text and lines are there and fit each other; they are open then."""
        try:
            self._keep(open_manifest(text, lines, verify=True))
        except FileNotFoundError:
            return False
        except (Damaged, OSError) as error:
            log.warning("%s is made again: %s", lines, error)
            return False
        mark_used(lines)
        return True

    def _write_lines(self, text: Path, manifest: Manifest) -> tuple[Path, Path]:
        """Write what was found out about a text, and the text if it was not normal."""
        places = self._places(text)
        if not manifest.is_normalized:
            normal = manifest.normal_text
            text = _write_first([directory / f"{text.name}{_NORMAL}" for directory in places], normal)
            manifest = Manifest(normal, str(text), manifest.lines)
            places = [text.parent]
        data = encode_lines(manifest.lines, manifest.text, lines_key(text))
        return text, _write_first([directory / f"{text.name}{_LINES}" for directory in places], data)


@contextmanager
def _translated(text: Path) -> Iterator[None]:
    try:
        yield
    except ArvfuseError:  # some of ours are OSErrors too
        raise
    except OSError as error:
        raise StoreUnavailable(f"{text}: {error.strerror}; the manifest cannot be read") from error


def _is_good(place: Path, key: bytes) -> bool:
    try:
        open_index(place, key, verify=True)
    except FileNotFoundError:
        return False
    except (Damaged, OSError) as error:
        log.warning("%s is made again: %s", place, error)
        return False
    return True


def _write_first(places: Sequence[Path], data: bytes) -> Path:
    """Write to the first of *places* that takes it."""
    failure: OSError | None = None
    for place in places:
        try:
            write_file(place, data)
        except OSError as error:
            failure = error
        else:
            return place
    assert failure is not None
    raise StoreUnavailable(f"{places[-1]}: {failure.strerror}; no place for what is known of a manifest") from failure
