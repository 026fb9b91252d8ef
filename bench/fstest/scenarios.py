"""The scenarios of the stress program: what each process does, cycle after cycle.

Each is a function of a Worker that raises Wrong (or OSError) at the first thing a file system must not do. What
has to be there when all processes have ended goes into the worker's result and is verified by bench.fstest.running.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.fstest.pages import PAGE_BYTES, BadPage, Model, Page, explain, parse_page
from bench.fstest.worker import Worker, Wrong

RECORD: Final = ".arvados#collection"
"""Reading it commits the collection it lies in; a plain directory has none."""
SETTLE_S: Final = 120.0
"""How long several views may take to show the same."""


def own_files(w: Worker) -> None:
    """Each process in a directory of its own: create, rewrite, read back, rename, delete."""
    home = w.place / f"own-{w.number}"
    home.mkdir()
    files: dict[str, Model] = {}
    for cycle in w.cycles():
        name = f"file-{cycle}"
        files[name] = w.create(home / name)
        w.check(home / name, files[name])
        w.rewrite(home / name, files[name])
        w.check(home / name, files[name])
        moved = w.rng.choice(list(files)) if w.rng.random() < 0.3 else f"moved-{cycle}"
        os.rename(home / name, home / moved)
        files[moved] = files.pop(name)
        w.check(home / moved, files[moved])
        if moved != name:
            w.gone(home / name)
        if len(files) > 4:
            victim = w.rng.choice(list(files))
            os.unlink(home / victim)
            del files[victim]
            w.gone(home / victim)
        w.listed(home, set(files))
    for name, model in files.items():
        w.keep(home / name, model)


def same_file(w: Worker) -> None:
    """All processes in one file: each writes pages of its own, reads the others', and appends to a common log."""
    path, log = w.place / "data", w.place / "log"
    mine: dict[int, Page] = {}
    seen: dict[int, int] = {}
    per_worker = 256 if w.run.big else 16
    for cycle in w.cycles():
        w.step()
        with open(path, "r+b", buffering=0) as file:
            for _ in range(4):
                index = w.rng.randrange(per_worker) * w.run.processes + w.number
                mine[index] = Page(w.run.seed, w.number, w.version(), 0, index)
                w.write(file.fileno(), mine[index].encode(), index * PAGE_BYTES)
            if w.run.interfere is not None:
                w.run.interfere(path)
            for index in [
                *w.rng.sample(sorted(mine), min(4, len(mine))),
                w.rng.randrange(per_worker * w.run.processes),
            ]:
                _check_shared(w, file.fileno(), path, index, mine, seen)
            if cycle % 8 == 7:
                os.fsync(file.fileno())
        if w.run.alone:
            with open(log, "ab", buffering=0) as file:
                if file.write(Page(w.run.seed, w.number, cycle + 1, 0, cycle).encode()) != PAGE_BYTES:
                    raise Wrong(f"{log}: an append was cut short")
            w.result.wrote += PAGE_BYTES
            w.result.appended[str(log.relative_to(w.base))] = cycle + 1
    w.result.files = int(w.number == 0)
    w.result.claims += [(str(path.relative_to(w.base)), page) for page in mine.values()]


def _check_shared(w: Worker, fd: int, path: Path, index: int, mine: dict[int, Page], seen: dict[int, int]) -> None:
    """One page of the common file. Another's may be read half written; it must be whole soon, and never go back."""
    for attempt in itertools.count():
        data = os.pread(fd, PAGE_BYTES, index * PAGE_BYTES)
        w.result.read += len(data)
        if w.run.alone and index in mine:
            if data != mine[index].encode():
                raise Wrong(f"{path}: {explain(data, mine[index].encode(), index)}")
            return
        if not data.strip(b"\0") and not (w.run.alone and index in seen):
            return
        try:
            page = parse_page(data)
            break
        except BadPage as problem:
            if attempt == 100:
                raise Wrong(f"{path}: page {index}: {problem}") from None
            time.sleep(0.001)
    if page.number != index or page.writer != index % w.run.processes or page.seed != w.run.seed:
        raise Wrong(f"{path}: page {index} holds {page}")
    if w.run.alone and page.version < seen.get(index, 0):
        raise Wrong(f"{path}: page {index} went back from version {seen[index]} to {page.version}")
    seen[index] = page.version


def same_directory(w: Worker) -> None:
    """All processes in one directory: own names come and go; one common name is renamed over by everybody."""
    prefix, files = f"w{w.number}-", dict[str, Model]()
    for cycle in w.cycles():
        name = f"{prefix}{cycle}"
        files[name] = w.create(w.place / name, size=w.rng.randrange(20_000))
        w.check(w.place / name, files[name])
        moved = w.rng.choice(list(files)) if w.rng.random() < 0.5 else f"{prefix}moved-{cycle}"
        os.rename(w.place / name, w.place / moved)
        files[moved] = files.pop(name)
        w.check(w.place / moved, files[moved])
        if len(files) > 3:
            victim = w.rng.choice(list(files))
            os.unlink(w.place / victim)
            del files[victim]
        w.listed(w.place, set(files), lambda found: found.startswith(prefix))
        _replace_common(w, cycle)
    for name, model in files.items():
        w.keep(w.place / name, model)


def _replace_common(w: Worker, cycle: int) -> None:
    """Rename a new file over the common name; whatever stands there must be one whole file of somebody."""
    version = w.version()
    common, own = w.place / "common", w.place / f"x{w.number}-{cycle}"
    with open(own, "xb", buffering=0) as file:
        pages = (Page(w.run.seed, w.number, version, 1, i).encode() for i in range(1 + version % 7))
        w.write(file.fileno(), b"".join(pages), 0)
    os.rename(own, common)
    w.result.files += 1
    with open(common, "rb", buffering=0) as file:
        data = b"".join(iter(lambda: file.read(65536), b""))
    w.result.read += len(data)
    try:
        found = [parse_page(data[at : at + PAGE_BYTES]) for at in range(0, len(data), PAGE_BYTES)]
    except BadPage as problem:
        raise Wrong(f"{common}: {problem}") from None
    first = found[0] if found else Page(0, 0, 0, 0, 0)
    if found != [first._replace(number=i) for i in range(1 + first.version % 7)]:
        raise Wrong(f"{common}: not one file but parts of {sorted({(p.writer, p.version) for p in found})}")


def collections(w: Worker) -> None:
    """Each process makes collections test<N>, commits them, and reads one that another process made."""
    w.place.joinpath(f"source-{w.number}").mkdir()
    for cycle in w.cycles():
        source = w.place / f"source-{w.number}" / str(cycle)
        model = _planned(w, w.number, cycle, source)
        made = w.base / w.run.test_name(w.number, cycle)
        made.mkdir()
        shutil.copyfile(source, made / "copy.bin")
        w.result.wrote += model.size
        w.check(made / "copy.bin", model)
        first = commit(made, made / "copy.bin")
        if first is not None and (again := commit(made)) != first:
            raise Wrong(f"{made}: committed as {first}, and without a change as {again}")
        w.check(made / "copy.bin", model)
        w.listed(made, {"copy.bin"})
        finished = [n for n in range(w.run.processes) if n != w.number and w.done[n]]
        if finished:
            number = w.rng.choice(finished)
            then = w.rng.randrange(w.done[number])
            theirs = w.base / w.run.test_name(number, then) / "copy.bin"
            if not w.run.alone:
                wait_until(theirs.exists, f"{theirs}: was made in another view and does not appear")
            w.check(theirs, _planned(w, number, then, None))
        w.keep(made / "copy.bin", model)


def _planned(w: Worker, number: int, cycle: int, path: Path | None) -> Model:
    """The file that worker *number* makes in *cycle*; written to *path* if one is given."""
    rng = random.Random(f"{w.run.seed}/collections/{number}/{cycle}")
    model, size = Model(w.run.seed, number, rng.getrandbits(63)), w.size(rng)
    pages = [model.put(index, cycle + 1) for index in range(-(-size // PAGE_BYTES))]
    model.cut(size)
    if path is not None:
        path.write_bytes(b"".join(pages)[:size])
        w.result.files += 1
        w.result.wrote += size
    w.step()
    return model


def moves(w: Worker) -> None:
    """Files and directories move within and across directories (and collections) while they are open."""
    here, there, far, shared = w.place / f"a{w.number}", w.place / f"b{w.number}", w.other / f"far{w.number}", w.place
    for directory in (here, there, far):
        directory.mkdir()
    target, kept = shared / f"target-{w.number}", None
    for cycle in w.cycles():
        name = f"file-{cycle}"
        model = w.create(here / name)
        with open(here / name, "rb", buffering=0) as first:
            for old, new in itertools.pairwise((here / name, there / name, far / name, target)):
                os.rename(old, new)
                w.gone(old)
                w.check(new, model)
            newer = w.create(here / "newer")
            os.rename(here / "newer", target)
            w.check(target, newer)
            w.check_open(first.fileno(), target, model)
        (here / "dir/sub").mkdir(parents=True)
        tree = {path: w.create(here / "dir" / path) for path in ("x", "sub/y")}
        with open(here / "dir/sub/y", "rb", buffering=0) as inside:
            for old, new in itertools.pairwise((here / "dir", there / "renamed", far / "dir")):
                os.rename(old, new)
                w.gone(old)
                for path, content in tree.items():
                    w.check(new / path, content)
            shutil.rmtree(far / "dir")
            w.gone(far / "dir")
            w.check_open(inside.fileno(), far / "dir/sub/y", tree["sub/y"])
        w.listed(here, set())
        w.listed(far, set())
        kept = newer
    if kept is not None:
        w.keep(target, kept)


def commit(directory: Path, file: Path | None = None) -> str | None:
    """Make what was written below *directory* safe and public: the PDH of the commit, or None on a plain directory."""
    try:
        text = (directory / RECORD).read_text()
    except FileNotFoundError:
        for path in (file, directory):
            if path is not None:
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        return None
    try:
        return str(json.loads(text)["portable_data_hash"])
    except (ValueError, KeyError) as problem:
        raise Wrong(f"{directory / RECORD}: not a record: {problem!r}") from None


def wait_until(holds: Callable[[], bool], otherwise: str, *, step: Callable[[], None] = lambda: None) -> None:
    """Return when *holds*; Wrong(*otherwise*) if that takes longer than SETTLE_S. Views have no way to call us."""
    deadline = time.monotonic() + SETTLE_S
    while not holds():
        if time.monotonic() > deadline:
            raise Wrong(f"{otherwise} ({SETTLE_S:.0f} s)")
        step()
        time.sleep(0.05)


SCENARIOS: Final[Mapping[str, Callable[[Worker], None]]] = MappingProxyType(
    {
        "own-files": own_files,
        "same-file": same_file,
        "same-directory": same_directory,
        "collections": collections,
        "moves": moves,
    }
)
