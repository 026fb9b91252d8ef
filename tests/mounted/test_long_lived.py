"""Many cases in a row on one mount that lives for all of them, each beside the same case in a plain directory.

What a case returns and what it leaves has to be the same in both. Collections are committed between cases, and at the
end all that is there is compared once more: after a remount, and in the store's own files without our code.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import mounts
from tests.support.directory_cases import CASES, failure
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


@pytest.fixture(scope="module", params=["kernel", "llfuse"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """On either driver. Leaving it compares everything: through another mount, and in the files of the store."""
    place = tmp_path_factory.mktemp("life")
    program = Program(place)
    (place / "plain").mkdir()
    with program.mounted(f"--driver={request.param}", "--read-write", "--commit-quiet=0.2", limit_s=LIFE_S) as top:
        made = Life(program, top, place / "plain")
        made.inside.mkdir()
        yield made
        wanted = digests(made.plain)
        assert digests(made.inside) == wanted
    assert list((program.store / "mounts").iterdir()) == []
    assert saved_digests(program.store, COLLECTION) == wanted
    with program.mounted(f"--driver={request.param}", "--read-only", limit_s=LIFE_S) as top:
        assert digests(top / "home" / COLLECTION) == wanted
    assert mounts.mounted(program.mountpoint) is None


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
    eventually(lambda: failure(os.stat, by_uuid) == "ENOENT")  # the kernel is told of the other path after the answer
    assert os.listdir(by_hash) == ["file"]


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
