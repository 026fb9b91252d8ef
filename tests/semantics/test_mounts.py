"""The promises that only a whole mount can keep: D1, D3, C2, C4 and B3 on real /dev/fuse. More in tests/mounted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from arvfuse import session
from tests.support import mounts
from tests.support.programs import Program, ended, eventually, kill
from tests.support.stores import flip

pytestmark = pytest.mark.mounted

SLOW = ("--read-write", "--commit-quiet=1000", "--commit-deadline=1000")
"""A mount that commits only when it is asked to, or ends."""
FED_S = 8.0
"""Patience with what a feed tells: less than the time after which a mount looks whatever it was told."""
FED_ONLY = "--refresh-time=300"
DATA = bytes(range(256)) * 8192 + b"and a bit"


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def write(top: Path) -> Path:
    """A collection with a small and a large file."""
    collection = top / "home" / "c"
    collection.mkdir()
    (collection / "small").write_bytes(b"small")
    (collection / "large").write_bytes(DATA)
    return collection


def assert_saved(program: Program) -> None:
    """Everything that write() wrote is in the saved record."""
    for name, data in {"small": b"small", "large": DATA}.items():
        target = program.place / f"got {name}"
        program.run("get", "-f", f"home/c/{name}", target, check=0)
        assert target.read_bytes() == data


@contextmanager
def held_open(path: Path) -> Iterator[int]:
    """A process that has *path* open; its id."""
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process.pid
    finally:
        process.communicate(timeout=20)


def test_d1_what_was_closed_survives_the_death_of_all_processes(program: Program) -> None:
    """D1: SIGKILL of supervisor, engine and backend; `recover` commits what was closed."""
    with program.mounted(*SLOW, dies=True) as top:
        write(top)
        processes = program.processes()
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
    program.run("recover", check=0)
    assert_saved(program)


def test_d3_unmount_commits_everything_first(program: Program) -> None:
    """D3: 0 only when all is committed, and the mount is gone then."""
    with program.mounted(*SLOW) as top:
        write(top)
        program.run("unmount", top, check=0)
        assert mounts.mounted(top) is None
    assert_saved(program)
    assert list((program.store / "mounts").iterdir()) == []


def test_d3_a_busy_mount_commits_names_the_holders_and_stays(program: Program) -> None:
    """D3: exit code 4, and nothing that uses the mount is disturbed."""
    with program.mounted(*SLOW) as top:
        collection = write(top)
        with held_open(collection / "small") as holder:
            done = program.run("unmount", top, check=4)
            assert f"{holder}" in done.stderr
            assert (collection / "large").read_bytes() == DATA
            assert_saved(program)


def test_d3_past_the_deadline_it_says_what_is_left_and_keeps_it(program: Program) -> None:
    """D3: exit code 7, the collection is named, and a recovery has it all."""
    with program.mounted(*SLOW, dies=True) as top:
        write(top)
        os.kill(program.processes()["backend"], signal.SIGSTOP)
        done = program.run("unmount", "--deadline=0.3", top, check=7)
        assert "c" in done.stderr
    program.run("recover", check=0)
    assert_saved(program)


def test_d3_sigterm_commits_and_ends(program: Program) -> None:
    """D3: the supervisor ends in order when it is told to."""
    with program.mounted(*SLOW, dies=True) as top:
        write(top)
        processes = program.processes()
        os.kill(processes["supervisor"], signal.SIGTERM)
        eventually(lambda: all(ended(process) for process in processes.values()))
        assert mounts.mounted(top) is None
    assert_saved(program)


def test_c2_another_mount_sees_a_commit(program: Program, tmp_path: Path) -> None:
    """C2: as soon as the feed tells it, without a remount; what is deleted goes."""
    beside = tmp_path / "beside"
    beside.mkdir()
    with program.mounted(*SLOW) as top, program.mounted("--read-only", FED_ONLY, mountpoint=beside) as other:
        assert not (other / "home" / "c").exists()
        collection = write(top)
        program.run("wait", top, check=0)
        eventually(lambda: (other / "home" / "c" / "small").exists(), limit_s=FED_S)
        assert (other / "home" / "c" / "large").read_bytes() == DATA
        (collection / "small").unlink()
        (collection / "large").write_bytes(b"replaced")
        program.run("wait", top, check=0)
        eventually(lambda: not (other / "home" / "c" / "small").exists(), limit_s=FED_S)
        eventually(lambda: (other / "home" / "c" / "large").read_bytes() == b"replaced", limit_s=FED_S)


def test_c2_a_mount_that_may_write_sees_one_commit_after_the_other(program: Program) -> None:
    """C2: what it took in needs no commit of its own before the next is taken in, and there would be none here."""
    with session.open(program.store, unsafe_filesystem=True) as library:
        theirs = library.new("c")
        with theirs.open("first", "w") as file:
            file.write("0")
        theirs.save()
        with program.mounted(*SLOW, FED_ONLY) as top:
            collection = top / "home" / "c"
            assert os.listdir(collection) == ["first"]
            for number in range(1, 4):
                with theirs.open("first", "w") as file:
                    file.write(f"{number}")
                theirs.save()
                eventually(lambda text=f"{number}": (collection / "first").read_text() == text, limit_s=FED_S)
            (collection / "ours").write_text("ours")
            program.run("wait", top, check=0)
        theirs.update()
        assert sorted(theirs) == ["first", "ours"]
        assert theirs.open("first").read() == "3"


def test_c4_a_block_that_rotted_is_an_error_and_not_a_missing_name(program: Program) -> None:
    """C4: reading it is EIO; the name, its size and its neighbours are as ever."""
    with program.mounted("--read-write") as top:
        write(top)
    block = max((path for path in (program.store / "blocks").glob("???/*")), key=lambda path: path.stat().st_size)
    flip(block, 1 << 20)
    with program.mounted() as top:
        collection = top / "home" / "c"
        with pytest.raises(OSError, match="Input/output error"):
            (collection / "large").read_bytes()
        assert (collection / "large").stat().st_size == len(DATA)
        assert (collection / "small").read_bytes() == b"small"


def test_b3_a_read_only_mount_says_what_waits_and_does_not_replay(program: Program) -> None:
    """B3: a dead mount's changes wait for a recovery; read-only is the default."""
    with program.mounted(*SLOW, dies=True) as top:
        write(top)
        processes = program.processes()
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
    (dead,) = (path.name for path in (program.store / "mounts").iterdir())
    with program.mounted() as top:
        assert os.listdir(top / "home" / "c") == [".arvados#collection"] or os.listdir(top / "home" / "c") == []
        with pytest.raises(OSError, match="Read-only file system"):
            (top / "home" / "c" / "new").touch()
        assert dead in program.run("status", check=0).stdout
    assert (program.store / "mounts" / dead).is_dir()
    program.run("recover", check=0)
    assert_saved(program)
