"""``put``, ``get`` and ``ls``: the library used from the command line.

Small files are read ahead, several at a time and in order; big ones are streamed. Threading: the main thread, and the
readers of a parallel iterator, which end with it. Failure: nothing half done is left under a name: a collection is
recorded when all of it is stored, a file gets its name when it is complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from arvfuse.cli import exits
from arvfuse.cli.destination import Destination, write_file
from arvfuse.cli.options import settings_of
from arvfuse.cli.output import Progress, print_bytes, print_json, show_size
from arvfuse.cli.sources import Source, sources
from arvfuse.errors import ArgumentError, IsADirectory, NoSuchEntry, NotADirectory, NotPermitted
from arvfuse.parallel import Executor, parallel_iterator
from arvfuse.sdk.directory import CollectionBase
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.session import Session
from arvfuse.session import open as open_session

_READ_BYTES: Final = 4 << 20
_AHEAD_BYTES: Final = 64 << 20
_AHEAD_FILES: Final = 8
_SMALL_BYTES: Final = 1 << 20


def put(asked: Any) -> int:
    """Store paths as a new collection; prints its uuid and portable data hash."""
    if asked.name is not None and not asked.name:
        raise ArgumentError("--name '': empty; give a name or leave it out")
    found = sources(asked.paths)
    total = sum(source.size for source in found if not source.is_directory)
    progress = Progress(quiet=bool(asked.quiet))
    with _session(asked, read_only=False) as session:
        try:
            collection = session.new()
            done = 0
            # A directory comes before what is in it, so that no path is walked from the top again.
            directories: dict[str, CollectionBase] = {"": collection}
            for source, content in _contents(found):
                above, _, name = source.target.rpartition("/")
                if source.is_directory:
                    directories[source.target] = directories[above].mkdirs(name)
                else:
                    done += _put_file(directories[above], name, source, content)
                progress.show(f"put {show_size(done)} of {show_size(total)}: {source.target}")
            progress.show("saving ...")
            collection.save_new(name=asked.name, owner_uuid=asked.project)
        finally:
            progress.close()
        uuid, pdh = collection.manifest_locator(), collection.portable_data_hash()
    if asked.json:
        print_json({"uuid": uuid, "portable_data_hash": pdh, "bytes": total, "entries": len(found)})
    else:
        print(f"{uuid} {pdh}")
    return exits.DONE


def get(asked: Any) -> int:
    """Copy a collection, a directory or a file of one to a path or to standard output."""
    if not asked.destination:
        raise ArgumentError("'': not a path; name one, or - for standard output")
    progress = Progress(quiet=bool(asked.quiet) or asked.destination == "-")
    with _session(asked, read_only=True) as session:
        item = _find(session, asked.source)
        try:
            if isinstance(item, ArvadosFile):
                size = _get_file(item, asked.destination, force=asked.force)
            elif asked.destination == "-":
                raise IsADirectory(asked.source, "a directory; only a file goes to standard output")
            else:
                size = _get_tree(item, asked.destination, force=asked.force, progress=progress)
        finally:
            progress.close()
    if asked.json and asked.destination != "-":
        print_json({"bytes": size})
    return exits.DONE


def ls(asked: Any) -> int:
    """List a collection, recursively; without one, the names in home."""
    with _session(asked, read_only=True) as session:
        if asked.source is None:
            names = [record.name for record in session.catalog.contents(session.catalog.home().uuid)]
            if asked.json:
                print_json({"names": names})
            for name in [] if asked.json else names:
                print_bytes(name.encode())
            return exits.DONE
        item = _find(session, asked.source)
        if isinstance(item, ArvadosFile):
            listing: Iterable[tuple[str, int]] = [(item.name, item.size())]
        else:
            listing = _list(item)
        if asked.json:
            print_json({"entries": [{"path": path, "bytes": None if size < 0 else size} for path, size in listing]})
            return exits.DONE
        for path, size in listing:
            shown = os.fsencode(f"./{path}{'/' if size < 0 else ''}")
            print_bytes(b"%12d %s" % (max(size, 0), shown) if asked.long else shown)
    return exits.DONE


def _session(asked: Any, *, read_only: bool) -> Session:
    settings = settings_of(asked)
    return open_session(settings.store, read_only=read_only, unsafe_filesystem=settings.unsafe_filesystem)


def _find(session: Session, text: str) -> Any:
    """The collection, directory or file that *text* names."""
    found = session.resolve(text)
    collection = session.collection(found.identity)
    if not found.path:
        return collection
    with suppress(NotADirectory):  # below a file there is nothing either
        item = collection.find(found.path)
        if item is not None:
            return item
    raise NoSuchEntry(text, f"not in the collection; `arvfuse ls {found.identity}` lists what is")


# put


def _contents(found: list[Source]) -> Iterator[tuple[Source, bytes | None]]:
    """Every source in order, small files with their content, read ahead."""

    def build(executor: Executor) -> Iterator[Iterator[Future[tuple[Source, bytes | None]]]]:
        yield (
            executor.submit(_read_small, source, cost=min(max(source.size, 0), _SMALL_BYTES) + 1) for source in found
        )

    return parallel_iterator(build, max_workers=_AHEAD_FILES, max_bytes=_AHEAD_BYTES)


def _read_small(source: Source) -> tuple[Source, bytes | None]:
    if source.is_directory or source.size > _SMALL_BYTES:
        return source, None
    with _opened(source) as file:
        content = file.read(_SMALL_BYTES + 1)
    return source, content if len(content) <= _SMALL_BYTES else None  # it grew: stream it


def _put_file(above: CollectionBase, name: str, source: Source, content: bytes | None) -> int:
    written = 0
    with above.open(name, "wb") as target:
        if content is not None:
            target.write(content)
            return len(content)
        with _opened(source) as file:
            while part := file.read(_READ_BYTES):
                target.write(part)
                written += len(part)
    return written


def _opened(source: Source) -> Any:
    try:
        return open(source.path, "rb", buffering=0)
    except PermissionError as error:
        raise NotPermitted(source.path, "cannot be read; correct its permissions") from error
    except FileNotFoundError as error:
        raise NoSuchEntry(source.path, "was removed meanwhile; put again") from error


# get


def _get_file(item: ArvadosFile, destination: str, *, force: bool) -> int:
    if destination == "-":
        written = 0
        for part in _parts(item):
            sys.stdout.buffer.write(part)
            written += len(part)
        sys.stdout.buffer.flush()
        return written
    if os.path.isdir(destination):
        destination = os.path.join(destination, item.name)
    directory, name = os.path.split(destination)
    if not name:
        raise NoSuchEntry(destination, "no such directory; make it with mkdir, or leave out the slash")
    try:
        parent = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NoSuchEntry(directory, "no such directory; make it with mkdir") from error
    try:
        return write_file(parent, name, _parts(item), force=force, shown=destination)
    finally:
        os.close(parent)


def _get_tree(item: CollectionBase, destination: str, *, force: bool, progress: Progress) -> int:
    if os.path.exists(destination) and not os.path.isdir(destination):
        raise ArgumentError(f"{destination}: not a directory, but a directory was asked for; choose another")
    target = Destination(destination, force=force)
    done = 0
    try:
        for names, entry in _walk(item):
            if isinstance(entry, ArvadosFile):
                done += target.write(names, _parts(entry))
                progress.show(f"got {show_size(done)}: {'/'.join(names)}")
            else:
                target.make_directory(names)
    finally:
        target.close()
    return done


def _parts(item: ArvadosFile) -> Iterator[bytes]:
    """The content, the next part being fetched while one is written."""
    size = item.size()

    def build(executor: Executor) -> Iterator[Iterator[Future[bytes]]]:
        yield (
            executor.submit(_read, item, offset, min(_READ_BYTES, size - offset), cost=_READ_BYTES)
            for offset in range(0, size, _READ_BYTES)
        )

    return parallel_iterator(build, max_workers=2 if size > _READ_BYTES else 1, max_bytes=_AHEAD_BYTES)


def _read(item: ArvadosFile, offset: int, size: int) -> bytes:
    return bytes(item.readfrom(offset, size))


def _walk(item: CollectionBase) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All below *item* in path order, each directory before what is in it; as deep as it may be."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), item)]
    while todo:
        names, entry = todo.pop()
        if names:
            yield names, entry
        if not isinstance(entry, ArvadosFile):
            todo.extend(((*names, name), below) for name, below in sorted(entry.items(), reverse=True))


# ls


def _list(item: CollectionBase) -> Iterator[tuple[str, int]]:
    """Files with their sizes; empty directories with -1."""
    for names, entry in _walk(item):
        if isinstance(entry, ArvadosFile):
            yield "/".join(names), entry.size()
        elif not len(entry):
            yield "/".join(names), -1
