"""Three-way merge of two trees that grew from one: what has to be done to ours so that nothing of either is lost.

Pure: views go in, effects come out; the caller applies them. A merge walks only what differs (fingerprints) and needs
no recursion, however deep a tree is. Views may raise what reading them raises (InvalidManifest); nothing else fails.

What decides, per name (promise D6):
- changed on one side only: the change. Equal changes on both sides: nothing to do.
- changed on both: the newer change keeps the name, the other goes to ``name~YYYYMMDD-HHMMSS~conflict~``. Where it is
  not known for both when they changed, ours keeps the name.
- deleted on one side, changed on the other: the change survives under its name. A directory that was deleted survives
  with what was changed or added in it, and with that only.
- a file on one side, a directory on the other: the same rules, where a directory is as new as the newest change in it.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeGuard

from arvfuse.errors import ArgumentError
from arvfuse.model.locators import strip_token
from arvfuse.model.normalizing import Path
from arvfuse.model.ranges import Part
from arvfuse.model.streams import coalesced

_NAME_BYTES: Final = 255  # the longest name that a kernel asks for
_SECOND_NS: Final = 1_000_000_000


class FileValue(NamedTuple):
    """What a file contains on one side. *changed_ns*: when that side changed it, 0 if unknown."""

    segments: tuple[Part, ...]
    size: int
    changed_ns: int = 0

    @classmethod
    def of(cls, segments: Iterable[Part], changed_ns: int = 0) -> FileValue:
        """The value of a file with *segments* (length, ref, offset), which may be split in any way."""
        parts = tuple(coalesced(iter(segments)))
        return cls(parts, sum(length for length, _, _ in parts), changed_ns)

    def same_content(self, other: FileValue) -> bool:
        """Whether both are made of the same bytes of the same blocks; hints of locators and splits do not count."""
        if self.size != other.size:
            return False
        return self.segments == other.segments or _stripped(self.segments) == _stripped(other.segments)


class View(Protocol):
    """A directory and all below it, as one side has it. A name is either in *files* or in *dirs*."""

    def fingerprint(self) -> bytes | None:
        """Equal fingerprints mean equal content of the whole subtree; None: look for yourself."""

    def files(self) -> Mapping[bytes, FileValue]: ...

    def dirs(self) -> Mapping[bytes, View]: ...


class Put(NamedTuple):
    """File *path* has these segments now; it may be new, its directory exists."""

    path: Path
    segments: tuple[Part, ...]


class MakeDir(NamedTuple):
    """Directory *path* is new; its parent exists."""

    path: Path
    kind: Literal["make"] = "make"


class Delete(NamedTuple):
    """*path* is gone: a file, or a directory that is empty after the effects before this one.

    So a directory to which somebody added a file in the meantime is not lost: its Delete does not apply."""

    path: Path
    kind: Literal["delete"] = "delete"


Effect = Put | MakeDir | Delete


def merge(base: View, ours: View, theirs: View, *, now_ns: int, taken: Container[Path] = frozenset()) -> list[Effect]:
    """What turns *ours* into the merged tree, in an order in which it can be applied.

    *now_ns* (wall clock) stamps conflict names, which are names that none of the three trees has and that are not in
    *taken*: paths that came into use in the meantime."""
    job = _Merge(now_ns, taken)
    job.run(base, ours, theirs)
    return job.effects


def conflict_name(name: bytes, wall_ns: int) -> bytes:
    """The name under which the loser of a conflict over *name* is kept; a long *name* is cut so that it fits."""
    stamp = time.strftime("~%Y%m%d-%H%M%S~conflict~", time.gmtime(wall_ns // _SECOND_NS)).encode()
    if len(name) + len(stamp) > _NAME_BYTES:
        cut = _NAME_BYTES - len(stamp)
        behind = (at for at in range(cut, cut - 4, -1) if name[at] & 0xC0 != 0x80)
        name = name[: next(behind, cut)]  # not within a character, if these are characters
    return name + stamp


def to_json(effect: Effect) -> list[Any]:
    """*effect* as a JSON value; names go as Latin-1 text, which holds any bytes."""
    path = [name.decode("latin-1") for name in effect.path]
    match effect:
        case Put():
            return ["put", path, [list(part) for part in effect.segments]]
        case MakeDir():
            return ["mkdir", path]
        case Delete():
            return ["delete", path]


def from_json(value: Any) -> Effect:
    """The effect that `to_json` made *value* of; ArgumentError for anything else."""
    try:
        kind, names, *rest = value
        path = tuple(name.encode("latin-1") for name in names)
        match kind, rest:
            case "put", [segments]:
                return Put(path, tuple((length, ref, offset) for length, ref, offset in segments))
            case "mkdir", []:
                return MakeDir(path)
            case "delete", []:
                return Delete(path)
    except (TypeError, ValueError, AttributeError) as error:
        raise ArgumentError(f"not an effect of a merge: {error}") from error
    raise ArgumentError(f"not an effect of a merge: {kind!r}")


Entry = FileValue | View | None


class _Nothing:
    """The side that never had a directory there."""

    def fingerprint(self) -> None:
        return None

    def files(self) -> Mapping[bytes, FileValue]:
        return {}

    def dirs(self) -> Mapping[bytes, View]:
        return {}


_NOTHING: Final = _Nothing()


class _News(NamedTuple):
    """What one side changed or added in a directory: (path below it, file), (path, None) for a new directory."""

    entries: list[tuple[Path, FileValue | None]]

    @property
    def changed_ns(self) -> int:
        return max((value.changed_ns for _, value in self.entries if value is not None), default=0)


class _Merge:
    """One run. Confined to its caller's thread."""

    def __init__(self, now_ns: int, taken: Container[Path]) -> None:
        self._now_ns: Final = now_ns
        self._taken: Final = taken
        self._todo: list[tuple[Path, View, View, View]] = []
        self.effects: list[Effect] = []

    def run(self, base: View, ours: View, theirs: View) -> None:
        self._todo.append(((), base, ours, theirs))
        while self._todo:
            self._directory(*self._todo.pop())

    def _directory(self, path: Path, base: View, ours: View, theirs: View) -> None:
        mark = theirs.fingerprint()
        if mark is not None and mark in (base.fingerprint(), ours.fingerprint()):
            return
        sides: list[dict[bytes, Entry]] = [{**view.files(), **view.dirs()} for view in (base, ours, theirs)]
        before, here, there = sides
        used = {name for side in sides for name in side}
        for name in sorted(here.keys() | there.keys()):
            self._entry((*path, name), before.get(name), here.get(name), there.get(name), used)

    def _entry(self, path: Path, base: Entry, ours: Entry, theirs: Entry, used: set[bytes]) -> None:
        if _is_view(ours) and _is_view(theirs):
            self._todo.append((path, base if _is_view(base) else _NOTHING, ours, theirs))
        elif _is_view(ours):
            self._our_directory(path, base, ours, _file(theirs), used)
        elif _is_view(theirs):
            self._their_directory(path, base, _file(ours), theirs, used)
        else:
            self._files(path, _file(base), _file(ours), _file(theirs), used)

    def _files(
        self, path: Path, base: FileValue | None, ours: FileValue | None, theirs: FileValue | None, used: set[bytes]
    ) -> None:
        if _same(ours, theirs) or _same(base, theirs):
            return
        if theirs is None:
            if _same(base, ours):
                self.effects.append(Delete(path))
        elif ours is None or _same(base, ours):
            self.effects.append(Put(path, theirs.segments))
        elif _is_newer(theirs, ours):
            self.effects += (Put(self._conflict_path(path, used), ours.segments), Put(path, theirs.segments))
        else:
            self.effects.append(Put(self._conflict_path(path, used), theirs.segments))

    def _our_directory(self, path: Path, base: Entry, ours: View, theirs: FileValue | None, used: set[bytes]) -> None:
        """We have a directory where they have a file or nothing."""
        if theirs is None:
            if _is_view(base):
                self._remove(path, base, ours)
            return
        if _same(_file(base), theirs):
            return
        news = _news(base, ours)
        if news is not None and not _is_newer(theirs, news):
            if _is_view(base):
                self._remove(path, base, ours)
            self.effects.append(Put(self._conflict_path(path, used), theirs.segments))
            return
        if news is not None:
            self._copy(self._conflict_path(path, used), news)
        self._remove(path, ours, ours)
        self.effects.append(Put(path, theirs.segments))

    def _their_directory(self, path: Path, base: Entry, ours: FileValue | None, theirs: View, used: set[bytes]) -> None:
        """They have a directory where we have a file or nothing."""
        news = _news(base, theirs)
        if news is None:
            return
        if ours is None:
            self._copy(path, news)
        elif _same(_file(base), ours):
            self.effects.append(Delete(path))
            self._copy(path, news)
        elif _is_newer(news, ours):
            self.effects += (Put(self._conflict_path(path, used), ours.segments), Delete(path))
            self._copy(path, news)
        else:
            self._copy(self._conflict_path(path, used), news)

    def _copy(self, path: Path, news: _News) -> None:
        """Make directory *path* with *news* in it, and the directories on the way to them."""
        made: set[Path] = set()
        for below, value in [((), None), *news.entries]:
            directory = path + (below if value is None else below[:-1])
            missing: list[Path] = []
            while len(directory) >= len(path) and directory not in made:
                made.add(directory)
                missing.append(directory)
                directory = directory[:-1]
            self.effects += map(MakeDir, reversed(missing))
            if value is not None:
                self.effects.append(Put(path + below, value.segments))

    def _remove(self, path: Path, base: View, ours: View) -> None:
        """Delete what *ours* has as *base* has it, and every directory of *base* that is empty then."""
        kept: set[Path] = set()
        visited: list[Path] = []
        todo = [(path, base, ours)]
        while todo:
            directory, before, here = todo.pop()
            visited.append(directory)
            known = before.files()
            for name, value in here.files().items():
                if _same(known.get(name), value):
                    self.effects.append(Delete((*directory, name)))
                else:
                    kept.add(directory)
            below = before.dirs()
            for name, view in here.dirs().items():
                if name in below:
                    todo.append(((*directory, name), below[name], view))
                else:
                    kept.add(directory)
        for directory in reversed(visited):  # the deepest first: a directory is visited before what is below it
            if directory not in kept:
                self.effects.append(Delete(directory))
            elif directory != path:
                kept.add(directory[:-1])

    def _conflict_path(self, path: Path, used: set[bytes]) -> Path:
        second = 0
        while True:
            name = conflict_name(path[-1], self._now_ns + second * _SECOND_NS)
            if name not in used and (*path[:-1], name) not in self._taken:
                used.add(name)
                return (*path[:-1], name)
            second += 1


def _news(base: Entry, side: View) -> _News | None:
    """What *side* has that *base* had not, or had otherwise; None if that is nothing. A directory that is new is
    news by itself."""
    if not _is_view(base):
        return _News(list(_changes(None, side)))
    entries = list(_changes(base, side))
    return _News(entries) if entries else None


def _changes(base: View | None, side: View) -> Iterator[tuple[Path, FileValue | None]]:
    todo: list[tuple[Path, View | None, View]] = [((), base, side)]
    while todo:
        path, before, now = todo.pop()
        if before is None:
            yield path, None
        else:
            mark = now.fingerprint()
            if mark is not None and mark == before.fingerprint():
                continue
        known = _NOTHING.files() if before is None else before.files()
        for name, value in now.files().items():
            if not _same(known.get(name), value):
                yield (*path, name), value
        below = _NOTHING.dirs() if before is None else before.dirs()
        todo += [((*path, name), below.get(name), view) for name, view in now.dirs().items()]


def _is_view(entry: Entry) -> TypeGuard[View]:
    return entry is not None and not isinstance(entry, FileValue)


def _file(entry: Entry) -> FileValue | None:
    return entry if isinstance(entry, FileValue) else None


def _same(one: FileValue | None, other: FileValue | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or one.same_content(other)


def _is_newer(theirs: FileValue | _News, ours: FileValue | _News) -> bool:
    """Whether *theirs* is known to be the newer change."""
    return theirs.changed_ns > ours.changed_ns > 0


def _stripped(segments: tuple[Part, ...]) -> list[Part]:
    return coalesced(
        (length, strip_token(ref) if isinstance(ref, str) else ref, offset) for length, ref, offset in segments
    )
