"""What programs do to directories, as cases: each works in an empty directory and returns what it saw.

The same case on any two directories has to return the same and leave the same. No case depends on another.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

CASES: list[Callable[[Path], object]] = []


def case(act: Callable[[Path], object]) -> Callable[[Path], object]:
    CASES.append(act)
    return act


def failure(act: Callable[..., object], *arguments: object) -> str:
    """The name of the errno that a call fails with, or "none"."""
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "none"


def through(path: Path, flags: int, act: Callable[[int], object]) -> str:
    """failure() of a call on an open file."""
    opened = os.open(path, flags)
    try:
        return failure(act, opened)
    finally:
        os.close(opened)


@case
def names(top: Path) -> object:
    odd = [b"a b", b"c:d", b"back\\slash", b"new\nline", b"-dash", b"*", b".hidden", b"...", b" ", b"\\040", b"a\tb"]
    odd += [b"\xff\xfe", b"caf\xe9", "é".encode(), b"\x01\x7f", b"x" * 255, b"\x80" * 255, b"conflict~"]
    root = os.fsencode(top)
    for name in odd:
        with open(os.path.join(root, name), "wb") as file:
            file.write(name)
        os.mkdir(os.path.join(root, name[:250] + b".dir"))
    too_long = os.path.join(root, b"x" * 256)
    return sorted(os.listdir(root)), failure(os.mkdir, too_long), failure(os.stat, too_long)


@case
def deep(top: Path) -> object:
    path = top
    for number in range(60):
        path = path / f"level {number}"
        path.mkdir()
    (path / "file").write_text("deep")
    os.rename(top / "level 0" / "level 1", top / "moved")
    return sorted(os.listdir(top)), len(list(top.rglob("*")))


@case
def saved_by_rename(top: Path) -> object:
    seen = []
    for number in range(20):
        with open(top / "text~", "w") as file:
            file.write(f"version {number}\n" * (number * 97 + 1))
            file.flush()
            os.fsync(file.fileno())
        os.rename(top / "text~", top / "text")
        seen.append((os.stat(top / "text").st_size, (top / "text").read_text()[-12:], os.listdir(top)))
    return seen


@case
def writes_and_truncations(top: Path) -> object:
    random_ = random.Random(5)
    sizes: list[object] = []
    with open(top / "file", "w+b", buffering=0) as file:
        for _ in range(250):
            kind, offset = random_.randrange(6), random_.randrange(3 << 20)
            if kind == 0:
                os.ftruncate(file.fileno(), offset)
            elif kind == 1:
                os.truncate(top / "file", offset // 2)
            elif kind == 2:
                os.pwrite(file.fileno(), random_.randbytes(random_.randrange(1, 300_000)), offset)
            elif kind == 3:
                sizes.append(os.pread(file.fileno(), 10, offset))
            else:
                os.pwrite(file.fileno(), random_.randbytes(10), offset)
            sizes.append(os.fstat(file.fileno()).st_size)
        os.fsync(file.fileno())
    return sizes


@case
def maps(top: Path) -> object:
    random_ = random.Random(4)
    with open(top / "mapped", "w+b") as file:
        file.truncate(1 << 20)
        with mmap.mmap(file.fileno(), 0) as view:
            for number in range(1000):
                offset = random_.randrange((1 << 20) - 100)
                view[offset : offset + 50] = random_.randbytes(50)
                if number == 500:
                    view.flush()
    return (top / "mapped").read_bytes()[:1000]


APPEND = """
import os, sys
fd = os.open(sys.argv[1], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
for _ in range(50):
    os.write(fd, sys.argv[2].encode() * 99 + b"\\n")
"""


@case
def appenders(top: Path) -> object:
    running = [subprocess.Popen([sys.executable, "-c", APPEND, str(top / "log"), who]) for who in "abcd"]
    ended = [process.wait(60) for process in running]
    lines = sorted((top / "log").read_bytes().splitlines())
    (top / "log").write_bytes(b"\n".join(lines))  # who came when is not the same twice
    return ended, len(lines), sorted({(len(line), len(set(line))) for line in lines})


@case
def open_files_without_a_name(top: Path) -> object:
    seen: list[object] = []
    with open(top / "gone", "w+b", buffering=0) as file:
        file.write(b"x" * 100_000)
        os.unlink(top / "gone")
        file.seek(3 << 20)
        file.write(b"end")
        os.fsync(file.fileno())
        seen += [os.fstat(file.fileno()).st_size, os.pread(file.fileno(), 5, 99_998), os.listdir(top)]
    with open(top / "old", "w+b", buffering=0) as file:
        file.write(b"old" * 1000)
        (top / "new").write_bytes(b"new")
        os.rename(top / "new", top / "old")
        file.write(b"more")
        seen += [os.pread(file.fileno(), 9, 2996), (top / "old").read_bytes(), os.listdir(top)]
    return seen


@case
def moved_while_open(top: Path) -> object:
    os.makedirs(top / "a" / "b" / "c")
    files = [open(top / "a" / "b" / "c" / str(number), "w+b", buffering=0) for number in range(10)]
    for number, file in enumerate(files):
        file.write(b"1" * (number * 200_000))
    os.rename(top / "a" / "b", top / "b2")
    for file in files:
        file.write(b"22")
    os.rename(top / "b2" / "c", top / "a" / "c2")
    for file in files:
        file.write(b"333")
        file.close()
    return [(top / "a" / "c2" / str(number)).read_bytes()[-6:] for number in range(10)], os.listdir(top / "b2")


@case
def refusals(top: Path) -> object:
    (top / "file").write_bytes(b"")
    os.makedirs(top / "full" / "in")
    (top / "empty").mkdir()
    file, full, empty, none = top / "file", top / "full", top / "empty", top / "none"
    new = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return [
        failure(os.rmdir, full),
        failure(os.rmdir, file),
        failure(os.rmdir, none),
        failure(os.mkdir, full),
        failure(os.mkdir, file / "x"),
        failure(os.unlink, full),
        failure(os.unlink, none),
        failure(os.rename, full, file),
        failure(os.rename, file, full),
        failure(os.rename, empty, full),
        failure(os.rename, full, full / "in" / "x"),
        failure(os.rename, none, file),
        failure(os.open, full, os.O_WRONLY),
        failure(os.open, file, new),
        failure(os.open, none, os.O_RDONLY),
        failure(os.listdir, file),
        failure(os.truncate, full, 0),
        through(file, os.O_WRONLY, lambda opened: os.pread(opened, 1, 0)),
        through(file, os.O_RDONLY, lambda opened: os.pwrite(opened, b"x", 0)),
        through(file, os.O_RDONLY, lambda opened: os.ftruncate(opened, 0)),
        failure(os.rename, full, empty),
        sorted(os.listdir(top)),
    ]


@case
def far_offsets(top: Path) -> object:
    seen: list[object] = []
    with open(top / "sparse", "w+b", buffering=0) as file:
        os.ftruncate(file.fileno(), 3 << 30)
        for offset in ((1 << 31) - 1, (1 << 32) - 2, 5_000_000_000):
            os.pwrite(file.fileno(), b"abc", offset)
            seen.append((os.pread(file.fileno(), 9, offset - 3), os.fstat(file.fileno()).st_size))
        os.ftruncate(file.fileno(), (1 << 32) - 1)
        seen.append(os.pread(file.fileno(), 9, (1 << 32) - 5))
        os.ftruncate(file.fileno(), 1 << 33)
        seen.append(os.pread(file.fileno(), 9, (1 << 32) - 5))
        os.ftruncate(file.fileno(), 5_000_000)
    return seen


@case
def listing_under_change(top: Path) -> object:
    for number in range(600):
        (top / f"old{number}").touch()
    seen = []
    with os.scandir(top) as entries:
        for count, entry in enumerate(entries):
            seen.append(entry.name)
            if count % 3 == 0:
                os.unlink(entry.path)
                (top / f"new{count}").touch()
    stable = sorted(name for name in seen if name.startswith("old"))
    for name in os.listdir(top):
        os.unlink(top / name)
    return stable, len(seen) == len(set(seen))


@case
def attributes(top: Path) -> object:
    path = top / "file"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))
    modes = [os.stat(path).st_mode]
    os.chmod(path, 0o755)
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    modes.append(os.stat(path).st_mode)
    before = os.stat(path).st_mtime_ns
    path.write_bytes(b"x")
    after = os.stat(path)
    return modes, before, after.st_mtime_ns > time.time_ns() - 60_000_000_000, after.st_mode, after.st_nlink


@case
def less_usual_calls(top: Path) -> object:
    source = os.open(top / "source", os.O_RDWR | os.O_CREAT)
    target = os.open(top / "target", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(source, 0, 100_000)
    os.pwrite(source, b"data" * 1000, 50_000)
    fcntl.flock(source, fcntl.LOCK_EX)
    fcntl.lockf(source, fcntl.LOCK_EX)
    seen = [
        os.fstat(source).st_size,
        os.copy_file_range(source, target, 30_000, 40_000, 1_000),
        os.sendfile(target, source, 50_000, 10),
        os.pread(target, 10, 0) + os.pread(target, 4, 11_000),
        os.lseek(target, 0, os.SEEK_END),
        os.access(top / "source", os.W_OK),
    ]
    os.close(source)
    os.close(target)
    return seen


@case
def a_removed_working_directory(top: Path) -> object:
    code = """
import os, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
for act in (lambda: open("x", "w"), lambda: os.mkdir("y"), lambda: os.stat("z")):
    try: act()
    except OSError as error: print(error.errno)
print(os.listdir("."))
"""
    done = subprocess.run([sys.executable, "-c", code, str(top / "cwd")], capture_output=True, text=True, timeout=60)
    return done.stdout, done.returncode


@case
def many_threads(top: Path) -> object:
    odd: list[BaseException] = []

    def work(number: int) -> None:
        random_ = random.Random(number)
        own = top / f"of {number}"
        own.mkdir()
        try:
            for count in range(60):
                path = own / str(random_.randrange(8))
                kind = random_.randrange(4)
                if kind == 0:
                    path.write_bytes(random_.randbytes(random_.choice((10, 70_000, 1_200_000))))
                elif kind == 1:
                    path.unlink(missing_ok=True)
                elif kind == 2 and path.exists():
                    os.rename(path, own / f"renamed{count % 5}")
                elif path.exists():
                    path.read_bytes()
        except BaseException as error:
            odd.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return odd, sorted(str(path.relative_to(top)) for path in top.rglob("*"))
