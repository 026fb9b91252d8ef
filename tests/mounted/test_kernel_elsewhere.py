"""The kernel driver beside other mounts and among deaths: changes from elsewhere, kills, unmounts in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from arvfuse.drivers.unmounting import unmount
from arvfuse.errors import Busy
from tests.support import mounts
from tests.support.driven import PATIENCE_S, Server, code_of
from tests.support.programs import Program, ended, eventually, kill

pytestmark = pytest.mark.mounted
RW = ("--driver=kernel", "--read-write", "--commit-quiet=0.05")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def both(program: Program) -> Iterator[tuple[Path, Path]]:
    with program.mounted_twice(*RW) as places:
        yield places


def test_c2_a_file_changed_elsewhere_is_another_one(both: tuple[Path, Path]) -> None:
    """Its number is new, and with it its size; who has the old one open reads on."""
    here, there = both
    (there / "f").write_bytes(b"old" * 5000)
    eventually(lambda: (here / "f").exists() and (here / "f").read_bytes() == b"old" * 5000)
    number = (here / "f").stat().st_ino
    with (here / "f").open("rb") as opened:
        (there / "f").write_bytes(b"newer" * 9000)
        eventually(lambda: (here / "f").stat().st_size == 45_000)
        assert (here / "f").read_bytes() == b"newer" * 9000
        assert (here / "f").stat().st_ino != number
        assert os.fstat(opened.fileno()).st_size == 15_000
        assert opened.read() == b"old" * 5000
    (there / "f").write_bytes(b"x")
    eventually(lambda: (here / "f").read_bytes() == b"x")


def test_c2_a_name_that_was_missing_appears_and_one_that_was_there_goes(both: tuple[Path, Path]) -> None:
    here, there = both
    assert code_of((here / "f").stat) == code_of((here / "d" / "g").stat) == "ENOENT"
    (there / "d").mkdir()
    (there / "d" / "g").write_bytes(b"g")
    (there / "f").write_bytes(b"f")
    eventually(lambda: (here / "f").exists() and (here / "d" / "g").exists())
    assert (here / "d" / "g").read_bytes() == b"g"
    os.unlink(there / "f")
    eventually(lambda: not (here / "f").exists())
    (there / "f").write_bytes(b"again")
    eventually(lambda: (here / "f").exists())
    assert sorted(os.listdir(here)) == ["d", "f"]


def test_d6_what_is_written_here_while_it_changes_there_is_kept(both: tuple[Path, Path]) -> None:
    here, there = both
    (there / "f").write_bytes(b"base")
    eventually(lambda: (here / "f").exists() and (here / "f").read_bytes() == b"base")
    with (here / "f").open("r+b", buffering=0) as file:
        file.write(b"here")
        (there / "f").write_bytes(b"there, longer")
        eventually(
            lambda: any("~conflict~" in name for name in os.listdir(there)) or len(os.listdir(here)) > 1, limit_s=40
        )
        assert os.pread(file.fileno(), 10, 0) == b"here"
    eventually(lambda: sorted(os.listdir(here)) == sorted(os.listdir(there)) and len(os.listdir(here)) == 2)
    contents = {(there / name).read_bytes() for name in os.listdir(there)}
    assert contents == {b"here", b"there, longer"}


def test_d1_without_write_back_every_write_survives_the_death_of_all(program: Program) -> None:
    options = ("--driver=kernel", "--read-write", "--no-writeback", "--commit-quiet=1000", "--commit-deadline=1000")
    with program.mounted(*options, dies=True) as top:
        processes = program.processes()
        (top / "home" / "one").mkdir()
        opened = os.open(top / "home" / "one" / "f", os.O_WRONLY | os.O_CREAT)
        for number in range(300):
            os.write(opened, b"%07d\n" % number)
        for process in processes.values():
            os.kill(process, signal.SIGSTOP)
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
        mounts.detach(top)
        with suppress(OSError):  # nobody is left to be told
            os.close(opened)
    with program.mounted("--read-write") as top:
        assert (top / "home" / "one" / "f").read_bytes() == b"".join(b"%07d\n" % number for number in range(300))


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A server with a request parked, and who waits for it."""
    server = Server("kernel", tmp_path)
    (server.mountpoint / "home").stat()
    (server.mountpoint / "by_id").stat()
    server.tell("hold")
    waiting = subprocess.Popen(["ls", server.mountpoint / "home"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while "waits" not in server.tell("waiting"):
        pass
    yield server, waiting
    waiting.kill()
    waiting.communicate()
    server.sweep()


def test_whoever_waits_can_be_interrupted(holding: tuple[Server, subprocess.Popen[bytes]]) -> None:
    server, waiting = holding
    assert server.status()["parked"] == 1
    waiting.send_signal(signal.SIGTERM)
    waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode != 0
    assert server.status()["parked"] == 0
    server.tell("release")
    assert os.listdir(server.mountpoint / "home") == []
    server.unmount()


def test_a_signal_that_is_handled_or_a_stop_ends_no_call(
    holding: tuple[Server, subprocess.Popen[bytes]],
) -> None:
    """As on other file systems: what runs on Go gets signals all the time, and a shell stops and continues its jobs."""
    server, first = holding
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "print('here', flush=True)\n"
        "os.mkdir(sys.argv[1])\n"  # the interpreter does not try that again after EINTR
    )
    place = server.mountpoint / "home" / "made"
    program = [sys.executable, "-c", code, place]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"here\n"
        while server.status()["parked"] < 2:
            pass
        for number in (signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT):
            waiting.send_signal(number)
            (server.mountpoint / "by_id").stat()
        assert server.status()["parked"] == 2
        server.tell("release")
        assert waiting.wait(PATIENCE_S) == 0, waiting.stderr
    assert first.wait(PATIENCE_S) == 0
    assert place.is_dir()
    server.unmount()


def test_whoever_has_handled_a_signal_can_still_be_killed(
    holding: tuple[Server, subprocess.Popen[bytes]],
) -> None:
    """The kernel tells of the first signal of a request alone."""
    server, waiting = holding
    waiting.send_signal(signal.SIGSTOP)
    waiting.send_signal(signal.SIGCONT)
    (server.mountpoint / "by_id").stat()
    waiting.kill()
    eventually(lambda: server.status()["parked"] == 0)
    assert waiting.wait(PATIENCE_S) == -signal.SIGKILL
    server.tell("release")
    server.unmount()


def test_a_mount_with_a_parked_request_is_busy_and_ends_lazily(holding: tuple[Server, subprocess.Popen[bytes]]) -> None:
    server, waiting = holding
    with pytest.raises(Busy):
        unmount(server.mountpoint, timeout_s=PATIENCE_S)
    unmount(server.mountpoint, lazy=True, timeout_s=PATIENCE_S)
    assert mounts.mounted(server.mountpoint) is None
    assert waiting.poll() is None
    server.tell("release")
    assert waiting.wait(PATIENCE_S) == 0
    assert server.line() == "ended"


def test_whoever_waits_is_told_when_the_engine_is_killed(holding: tuple[Server, subprocess.Popen[bytes]]) -> None:
    server, waiting = holding
    server.process.kill()
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode != 0
    assert b"reading directory" in said or b"cannot" in said
    assert code_of(os.listdir, server.mountpoint) == "ENOTCONN"


READER = "import os, sys; print(sum(len(open(sys.argv[1], 'rb').read()) for _ in range(3)))"


def test_an_engine_that_dies_with_requests_in_hand_leaves_nobody_hanging(program: Program) -> None:
    with program.mounted(*RW, dies=True) as top:
        processes = program.processes()
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "f").write_bytes(os.urandom(5 << 20))
        os.kill(processes["engine"], signal.SIGSTOP)
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, top / "home" / "one" / f"{number}"], stderr=subprocess.DEVNULL
            )
            for number in range(5)
        ]
        os.kill(processes["engine"], signal.SIGKILL)
        assert [reader.wait(PATIENCE_S) != 0 for reader in readers] == [True] * 5
        eventually(lambda: all(ended(process) for process in processes.values()))
        assert mounts.mounted(top) is None
    assert program.collections()["one"]["version"] == 2
