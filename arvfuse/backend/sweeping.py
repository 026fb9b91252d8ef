"""Old indexes beside the manifests of a store are removed, those first that nobody used for longest.

Nothing else would remove them: each was made for a look at one version of a collection, and can be made again. A file
says by its time of last change when it was used (``mark_used``). For a day after that it stays, so that who was told
of it, in any process, can map it; what is mapped can be read anyway. A manifest in normal form stays: open trees name
it. One process sweeps a store, once a day. Threading: any thread. Failure: what cannot be removed stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

KEEP_BYTES: Final = 1 << 30
UNUSED_NS: Final = 24 * 3600 * 1_000_000_000
SWEPT: Final = Path("tmp") / "swept"
"""Below ``manifests``: when the store was swept last. Files there go after a day; then it is due again."""

_INDEX: Final = re.compile(r"[0-9a-f]{32}\+[0-9]+(\.normal)?\.(lines|[0-9a-f]{32})(?P<new>\.[0-9a-f]{8}\.new)?")


class _Found(NamedTuple):
    used_ns: int
    size: int
    path: str
    is_new: bool


def mark_used(file: Path) -> None:
    """Somebody is told of the index *file*."""
    with contextlib.suppress(OSError):  # somebody else's, or gone
        os.utime(file)


def sweep(manifests: Path, *, now_ns: int, keep_bytes: int = KEEP_BYTES, is_over: Callable[[], bool]) -> int:
    """Remove what is beyond *keep_bytes* of indexes, and what killed writers left; how many files.

    Does nothing if somebody did in the last day; ends early when *is_over*, and is due again then."""
    mark = manifests / SWEPT
    if not _begin(mark, now_ns):
        return 0
    found: list[_Found] = []
    for each in _indexes(manifests):
        if is_over():
            break
        found.append(each)
    kept = sum(each.size for each in found)
    removed = 0
    for each in sorted(found):
        if is_over() or each.used_ns > now_ns - UNUSED_NS:
            break
        if kept <= keep_bytes and not each.is_new:
            continue
        try:
            os.unlink(each.path)
        except OSError as error:
            log.debug("%s: not removed: %s", each.path, error)
            continue
        kept -= each.size
        removed += 1
    if is_over():
        with contextlib.suppress(OSError):
            mark.unlink()
    return removed


def _begin(mark: Path, now_ns: int) -> bool:
    """Whether it is our turn; then it is nobody else's for a day."""
    try:
        if mark.stat().st_mtime_ns > now_ns - UNUSED_NS:
            return False
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        mark.touch()
        os.utime(mark, ns=(now_ns, now_ns))
    except OSError:  # a store without files of manifests, or that cannot be written
        return False
    return True


def _indexes(manifests: Path) -> Iterator[_Found]:
    try:
        directories = [entry.path for entry in os.scandir(manifests) if len(entry.name) == 3 and entry.is_dir()]
    except OSError:
        return
    for directory in directories:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                match = _INDEX.fullmatch(entry.name)
                if match is not None:
                    status = entry.stat(follow_symlinks=False)
                    yield _Found(status.st_mtime_ns, status.st_size, entry.path, match["new"] is not None)
