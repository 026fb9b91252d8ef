"""The work that is measured, the same on every place: bytes of one file, many small files, a source tree.

Functions that do a job and return seconds or bytes; what is written is seeded, never the same twice (a store that
knows a block already has less to do), and checked when it is read. No threads; ``together`` forks, so the calling
process must have none. Failure: OSError, AssertionError when what is read is not what was written.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
PAGE: Final = 4096
STAMP_BYTES: Final = 16
FILES_IN_DIRECTORY: Final = 1000
_CHUNK: Final = random.Random(7).randbytes(MIB)
_tags = iter(range(os.getpid() << 20, 1 << 62))


def timed(*work: Callable[[], object]) -> float:
    """Seconds that *work* takes, one after the other."""
    start = time.perf_counter()
    for each in work:
        each()
    return time.perf_counter() - start


def next_tag() -> int:
    """A number that no other content of this run has."""
    return next(_tags)


def write(path: Path, size: int, step: int, tag: int, *, sync: bool = True) -> None:
    """Write a file, or what is in it anew, from its begin in writes of *step* bytes, each with a stamp of its own."""
    data = memoryview(bytearray(_CHUNK[:step]))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        for offset in range(0, size, step):
            data[:STAMP_BYTES] = _stamp(tag, offset)
            _write_all(fd, data[: size - offset])
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def write_direct(path: Path, size: int) -> None:
    """Write a file by O_DIRECT in writes of 1 MiB, make it safe and remove it: the disk alone, no page is copied."""
    with mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as data:  # aligned, as O_DIRECT wants
        data[:] = _CHUNK
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o644)
        try:
            for offset in range(0, size, MIB):
                done = os.pwrite(fd, data, offset)
                assert done == MIB
            os.fsync(fd)
        finally:
            os.close(fd)
            path.unlink()


def write_at(path: Path, size: int, offsets: Sequence[int], step: int, tag: int) -> None:
    """Write *step* bytes at each of *offsets* of a file that is there, and make it safe."""
    data = memoryview(bytearray(_CHUNK[:step]))
    fd = os.open(path, os.O_WRONLY)
    try:
        for offset in offsets:
            assert offset + step <= size
            data[:STAMP_BYTES] = _stamp(tag, offset)
            done = os.pwrite(fd, data, offset)
            assert done == step
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: Path, offsets: Sequence[int], step: int, tag: int | None = None) -> None:
    """Read *step* bytes at each of *offsets*; with *tag* that they are what write() wrote in such steps."""
    buffer = bytearray(step)
    into, seen = [buffer], memoryview(buffer)[:STAMP_BYTES]
    fd = os.open(path, os.O_RDONLY)
    try:
        for offset in offsets:
            got = os.preadv(fd, into, offset)
            assert got == step, f"{path}: {got} bytes at {offset}"
            assert tag is None or seen == _stamp(tag, offset), f"{path}: wrong bytes at {offset}"
    finally:
        os.close(fd)


def forward(size: int, step: int) -> list[int]:
    """Every offset in order."""
    return list(range(0, size, step))


def backward(size: int, step: int) -> list[int]:
    """Every offset from the end."""
    return list(range(size - step, -1, -step))


def stride(size: int, step: int, apart: int = 4) -> list[int]:
    """Every *apart*-th offset in order."""
    return list(range(0, size, step * apart))


def scattered(size: int, step: int, count: int, seed: int = 9) -> list[int]:
    """*count* offsets anywhere, no order."""
    chooser = random.Random(seed)
    return [chooser.randrange(size // step) * step for _ in range(count)]


def names(directory: Path, count: int) -> list[bytes]:
    """The paths of *count* small files, FILES_IN_DIRECTORY in each directory."""
    top = os.fsencode(directory)
    return [b"%s/d%d/f%d" % (top, number // FILES_IN_DIRECTORY, number) for number in range(count)]


def create(paths: Sequence[bytes], size: int = PAGE) -> None:
    """Create, write, close each; their directories too."""
    data = memoryview(bytearray(_CHUNK[:size]))
    tag = next_tag()
    for number, path in enumerate(paths):
        if number % FILES_IN_DIRECTORY == 0:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path))
        data[:STAMP_BYTES] = _stamp(tag, number)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, data)
        os.close(fd)


def stat_each(paths: Sequence[bytes]) -> None:
    """stat(2) of each."""
    for path in paths:
        os.stat(path)


def list_each(directory: Path) -> int:
    """What `ls -lR` does: list every directory and stat(2) every name; how many there were."""
    found, left = 0, [os.fspath(directory)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                found += 1
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
    return found


def unlink_each(paths: Sequence[bytes]) -> None:
    """unlink(2) of each."""
    for path in paths:
        os.unlink(path)


def make_tar(path: Path, *, every: int = 1) -> int:
    """The interpreter's standard library, or one file of *every*, as a tar; how many files it has."""
    top = Path(sysconfig.get_path("stdlib"))
    seen = count = 0
    with tarfile.open(path, "w", dereference=True) as archive:
        for base, directories, files in os.walk(top):
            directories[:] = sorted(set(directories) - {"__pycache__", "site-packages", "dist-packages"})
            for name in sorted(files):
                found = Path(base, name)
                seen += 1
                if found.is_file() and seen % every == 0:
                    archive.add(found, f"lib/{found.relative_to(top)}", recursive=False)
                    count += 1
    return count


def untar(archive: Path, directory: Path) -> None:
    """Unpack."""
    subprocess.run(["tar", "-xf", str(archive), "-C", str(directory)], check=True)


def find(directory: Path) -> None:
    """`find`, every name."""
    subprocess.run(["find", str(directory), "-name", "*.py"], stdout=subprocess.DEVNULL, check=True)


def grep(directory: Path) -> None:
    """`grep -r` of a word that is nowhere: reads all of it."""
    word = "nowhere" + "-in-this-tree"
    done = subprocess.run(["grep", "-r", "-F", word, str(directory)], stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 1, f"grep ended with {done.returncode}"


def together(jobs: Sequence[Callable[[], object]]) -> float:
    """Seconds until processes that begin at once have all done their job."""
    gate_out, gate_in = os.pipe()
    children = []
    for job in jobs:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.close(gate_in)
                os.read(gate_out, 1)
                job()
                code = 0
            except BaseException as failure:  # top of a process
                print(f"bench: {failure!r}", file=sys.stderr)
            finally:
                os._exit(code)
        children.append(child)
    os.close(gate_out)
    start = time.perf_counter()
    os.close(gate_in)
    codes = [os.waitpid(child, 0)[1] for child in children]
    took = time.perf_counter() - start
    if any(codes):
        raise OSError("one of the processes failed")
    return took


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """*count* processes that only compute, for a block."""
    words = [sys.executable, "-S", "-c", "while True: pass"]
    neighbours = [subprocess.Popen(words) for _ in range(count)]
    try:
        time.sleep(0.1)
        yield
    finally:
        for each in neighbours:
            each.kill()
            each.wait()


def _stamp(tag: int, offset: int) -> bytes:
    return tag.to_bytes(8, "little") + offset.to_bytes(8, "little")


def _write_all(fd: int, data: memoryview) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])
