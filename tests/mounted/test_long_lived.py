"""Many cases in a row on one mount that lives for all of them, each beside the same case in a plain directory.

What a case returns and what it leaves has to be the same in both. Collections are committed between cases, and at the
end all that is there is compared once more: after a remount, and in the store's own files without our code.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mounts
from tests.support.naive import digests, saved_digests
from tests.support.programs import Program, eventually

pytestmark = pytest.mark.mounted
LIFE_S = 600.0  # what hangs is freed after that
COLLECTION = "long lived"
RECORD = ".arvados#collection"


class Life:
    """One mount, and a plain directory beside it in which the same is done."""

    def __init__(self, program: Program, top: Path, plain: Path) -> None:
        self.program = program
        self.home = top / "home"
        self.by_id = top / "by_id"
        self.inside = self.home / COLLECTION
        self.plain = plain

    def record(self, name: str = COLLECTION) -> dict[str, object]:
        """Commit, and what the catalog says."""
        record: dict[str, object] = json.loads((self.home / name / RECORD).read_text())
        return record


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Leaving it compares everything: through another mount, and in the files of the store."""
    place = tmp_path_factory.mktemp("life")
    program = Program(place)
    (place / "plain").mkdir()
    with program.mounted("--read-write", "--commit-quiet=0.2", limit_s=LIFE_S) as top:
        made = Life(program, top, place / "plain")
        made.inside.mkdir()
        yield made
        wanted = digests(made.plain)
        assert digests(made.inside) == wanted
    assert list((program.store / "mounts").iterdir()) == []
    assert saved_digests(program.store, COLLECTION) == wanted
    with program.mounted("--read-only", limit_s=LIFE_S) as top:
        assert digests(top / "home" / COLLECTION) == wanted
    assert mounts.mounted(program.mountpoint) is None


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


@pytest.mark.parametrize("act", CASES, ids=lambda act: act.__name__)
def test_a_mount_is_like_any_directory(life: Life, act: Callable[[Path], object]) -> None:
    results = []
    for top in (life.inside, life.plain):
        own = top / act.__name__
        own.mkdir()
        results.append(act(own))
    assert results[0] == results[1]
    wanted = digests(life.plain / act.__name__)
    assert digests(life.inside / act.__name__) == wanted
    life.record()
    assert digests(life.inside / act.__name__) == wanted


def test_collections_are_made_renamed_and_removed_as_directories(life: Life) -> None:
    home = life.home
    for name in ("made", "sp ace", "é", "n" * 255, "back\\slash", "*"):
        (home / name).mkdir()
        assert failure(os.mkdir, home / name) == "EEXIST"
        (home / name / "file").write_text(name)
        assert failure(os.rmdir, home / name) == "ENOTEMPTY"
        assert life.record(name)["name"] == name
        renamed = home / f"{name[:200]} renamed"
        os.rename(home / name, renamed)
        assert (failure(os.stat, home / name), (renamed / "file").read_text()) == ("ENOENT", name)
        os.unlink(renamed / "file")
        os.rmdir(renamed)
    assert os.listdir(home) == [COLLECTION]
    assert failure(os.mkdir, os.fsencode(home) + b"/\xff") == "EILSEQ"
    assert failure(os.mkdir, home / ("n" * 256)) == "ENAMETOOLONG"
    assert failure(os.open, home / "file", os.O_CREAT | os.O_WRONLY) in ("EOPNOTSUPP", "ENOTSUP")
    assert failure(os.mkdir, life.by_id / "new") == "EPERM"


def test_files_move_between_collections_while_they_are_open(life: Life) -> None:
    one, two = life.home / "one", life.home / "two"
    for each in (one, two):
        each.mkdir()
    with open(one / "file", "w+b", buffering=0) as file, open(one / "mapped", "w+b") as mapped:
        mapped.truncate(8192)
        with mmap.mmap(mapped.fileno(), 0) as view:
            view[0:1] = b"A"
            file.write(b"1" * 2_000_000)
            os.rename(one / "file", two / "file")
            os.rename(one / "mapped", two / "mapped")
            view[1:2] = b"B"
            file.write(b"2")
            life.record("two")
            view[2:3] = b"C"
            view.flush()
            file.write(b"3")
    assert (two / "file").read_bytes() == b"1" * 2_000_000 + b"23"
    assert (two / "mapped").read_bytes() == b"ABC".ljust(8192, b"\0")
    os.makedirs(one / "d" / "e")
    (one / "d" / "e" / "f").write_text("f")
    os.rename(one / "d", two / "d2")
    assert ((two / "d2" / "e" / "f").read_text(), os.listdir(one)) == ("f", [])
    assert failure(os.rename, two / "d2", life.home / "d2") == "EPERM"
    assert failure(os.rename, one, two / "one") == "EPERM"
    life.record("one")
    life.record("two")
    for name, top in (("one", one), ("two", two)):
        assert saved_digests(life.program.store, name) == digests(top)
    subprocess.run(["rm", "-r", *map(str, two.iterdir())], check=True, timeout=60)
    os.rmdir(one)
    os.rmdir(two)


def test_a_collection_is_the_same_by_its_uuid_and_as_it_was_by_its_hash(life: Life) -> None:
    top = life.home / "twice"
    top.mkdir()
    (top / "file").write_text("one")
    record = life.record("twice")
    by_uuid, by_hash = life.by_id / str(record["uuid"]), life.by_id / str(record["portable_data_hash"])
    assert (by_uuid / "file").read_text() == (by_hash / "file").read_text() == "one"
    (by_uuid / "file").write_text("two")
    (by_uuid / "new").touch()
    assert ((top / "file").read_text(), sorted(os.listdir(top))) == ("two", ["file", "new"])
    assert ((by_hash / "file").read_text(), os.listdir(by_hash)) == ("one", ["file"])
    os.unlink(top / "new")
    assert failure(os.stat, by_uuid / "new") == "ENOENT"
    for refused in (
        failure(os.open, by_hash / "file", os.O_WRONLY),
        failure(os.unlink, by_hash / "file"),
        failure(os.truncate, by_hash / "file", 0),
        failure(os.chmod, by_hash / "file", 0),
        failure(os.mkdir, by_hash / "new"),
    ):
        assert refused == "EROFS"
    assert failure(os.open, top / RECORD, os.O_WRONLY) == failure(os.unlink, top / RECORD) == "EPERM"
    assert failure(os.stat, life.by_id / ("0" * 32 + "+5")) == failure(os.stat, life.by_id / "no id") == "ENOENT"
    os.unlink(top / "file")
    os.rmdir(top)


def test_a_read_only_mount_beside_it_sees_commits_and_refuses_every_change(life: Life) -> None:
    place = life.program.place / "read only"
    place.mkdir()
    top = life.home / "shown"
    top.mkdir()
    (top / "file").write_text("one")
    life.record("shown")
    with life.program.mounted("--read-only", mountpoint=place) as beside:
        seen = beside / "home" / "shown"
        assert (seen / "file").read_text() == "one"
        (top / "file").write_text("two")
        life.record("shown")
        eventually(lambda: (seen / "file").read_text() == "two")
        record = (seen / RECORD).read_text()
        writing = (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_WRONLY | os.O_APPEND)
        refused = [failure(os.open, seen / "file", flags) for flags in writing] + [
            failure(os.open, seen / "new", os.O_CREAT),
            failure(os.open, seen / RECORD, os.O_RDWR),
            failure(os.truncate, seen / "file", 0),
            failure(os.unlink, seen / "file"),
            failure(os.rename, seen / "file", seen / "new"),
            failure(os.mkdir, seen / "new"),
            failure(os.rmdir, seen),
            failure(os.rename, seen, beside / "home" / "new"),
            failure(os.mkdir, beside / "home" / "new"),
            failure(os.chmod, seen / "file", 0o600),
            failure(os.utime, seen / "file", (1, 1)),
            failure(os.mknod, seen / "new", 0o100644),
            failure(os.symlink, "x", seen / "new"),
            failure(os.link, seen / "file", seen / "new"),
        ]
        assert set(refused) == {"EROFS"}
        assert not os.access(seen / "file", os.W_OK)
        space = os.statvfs(seen)
        assert space.f_blocks >= space.f_bfree > 0
        assert (space.f_namemax, bool(space.f_flag & os.ST_RDONLY)) == (255, True)
        assert ((seen / "file").read_text(), (seen / RECORD).read_text()) == ("two", record)
    os.unlink(top / "file")
    os.rmdir(top)


def test_a_long_life_leaves_nothing_behind(life: Life) -> None:
    """Files, commits and collections that came and went keep no descriptor, thread, spool file or table."""
    top = life.inside / "short lived"
    top.mkdir()
    directory = life.program.store / "mounts" / next(iter(os.listdir(life.program.store / "mounts")))

    def live(rounds: int) -> None:
        for number in range(rounds):
            for size in (10, 100_000, 1_500_000):
                (top / str(size)).write_bytes(bytes([number % 256]) * size)
            life.record()
            for name in os.listdir(top):
                os.unlink(top / name)
            (life.home / "brief").mkdir()
            (life.home / "brief" / "file").touch()
            life.record("brief")
            os.unlink(life.home / "brief" / "file")
            os.rmdir(life.home / "brief")

    def held() -> dict[str, tuple[int, int]]:
        processes = life.program.processes()
        return {
            name: (len(os.listdir(f"/proc/{process}/fd")), len(os.listdir(f"/proc/{process}/task")))
            for name, process in processes.items()
        }

    live(8)
    before = held()
    live(25)
    after = held()
    for name in before:
        assert after[name][0] <= before[name][0] + 5, (name, before, after)
        assert after[name][1] <= before[name][1] + 3, (name, before, after)
    life.record()
    eventually(lambda: [os.listdir(directory / part) for part in ("spool", "moved")] == [[], []])
    assert len(os.listdir(directory / "log")) <= 4
    os.rmdir(top)
    assert "Traceback" not in life.program.log()
