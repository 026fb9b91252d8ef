"""The backend makes the indexes of big directories, so that the engine neither parses a long line nor holds its names.

An index lies beside its manifest text in the store, or in the mount's own directory where the store cannot be written
(or has no texts as files). One that is there is read once and compared with its check; what does not match is made
again. Owns the texts that it has open. Threading: any thread; two that want the same index make it twice. Failure:
InvalidManifest for a line that cannot be understood, StoreUnavailable where neither place can be read or written.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from arvfuse.errors import ArvfuseError, Damaged, StoreUnavailable
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.mapped import index_key, index_name, open_index, open_manifest, write_index
from arvfuse.sdk.nodes import Path as NodePath
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)

_OPEN_TEXTS: Final = 4
_PDH: Final = re.compile(r"[0-9a-f]{32}\+[0-9]+")


class Indexing:
    """Indexes for one mount; *own* is a directory of the mount for what cannot lie in the store."""

    def __init__(self, own: Path) -> None:
        self._own: Final = own
        self._lock: Final = RankedLock(Rank.LEAF)
        self._texts: OrderedDict[Path, Manifest] = OrderedDict()  # guarded by: _lock; the last few

    def index_of(self, text: Path, path: NodePath) -> Path:
        """A file with the index of directory *path* of the manifest in file *text*."""
        key, name = index_key(text, path), index_name(text, path)
        places = [self._own / name]
        if _PDH.fullmatch(text.name):
            places.insert(0, text.with_name(name))
        for place in places:
            if _is_good(place, key):
                return place
        try:
            data = self._open(text).index_bytes(path, key)
        except ArvfuseError:  # some of ours are OSErrors too
            raise
        except OSError as error:
            raise StoreUnavailable(f"{text}: {error.strerror}; a directory of it cannot be listed") from error
        return _write_first(places, data)

    def _open(self, text: Path) -> Manifest:
        with self._lock:
            known = self._texts.get(text)
            if known is not None:
                self._texts.move_to_end(text)
                return known
        opened = open_manifest(text)
        with self._lock:
            self._texts[text] = opened
            while len(self._texts) > _OPEN_TEXTS:
                self._texts.popitem(last=False)
        return opened


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
            write_index(place, data)
        except OSError as error:
            failure = error
        else:
            return place
    assert failure is not None
    raise StoreUnavailable(f"{places[-1]}: {failure.strerror}; no place for the index of a directory") from failure
