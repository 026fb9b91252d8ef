"""Processes of a mount are killed in the middle of writing: nothing that was closed is lost (promise D1)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support import mounts
from tests.support.programs import Program, ended, eventually, kill

pytestmark = pytest.mark.mounted

BIG = bytes(range(256)) * (3 << 12)  # 3 MiB


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def write(collection, numbers):
    """Close small files and a big one; what must be there afterwards."""
    written = {}
    for number in numbers:
        content = BIG + bytes([number]) if number % 10 == 0 else f"content {number}".encode()
        (collection / f"file{number}").write_bytes(content)
        written[f"file{number}"] = content
    return written


def check(program, written):
    with program.mounted("--read-write") as top:
        collection = top / "home" / "one"
        assert sorted(os.listdir(collection)) == sorted(written)
        for name, content in written.items():
            assert (collection / name).read_bytes() == content, name
    assert list((program.store / "mounts").iterdir()) == []


@pytest.mark.parametrize("driver", ["kernel", "llfuse"])
@pytest.mark.parametrize("victims", [("engine",), ("supervisor",), ("engine", "backend", "supervisor")])
def test_nothing_closed_is_lost_when_a_mount_is_killed(program, victims, driver):
    with program.mounted(
        f"--driver={driver}", "--read-write", "--commit-quiet=1000", "--commit-deadline=1000", dies=True
    ) as top:
        processes = program.processes()
        (top / "home" / "one").mkdir()
        written = write(top / "home" / "one", range(30))
        for victim in victims:  # stopped first, so that all die at once
            os.kill(processes[victim], signal.SIGSTOP)
        kill({victim: processes[victim] for victim in victims})
        if len(victims) == 1:
            eventually(lambda: all(ended(process) for process in processes.values()))
            assert mounts.mounted(top) is None
            assert program.collections()["one"]["version"] == 2  # committed without a recovery
        else:
            eventually(lambda: all(ended(process) for process in processes.values()))
            assert mounts.mounted(top) is not None  # nobody was left to detach it
    check(program, written)


def test_a_dead_mount_is_released_by_unmount_which_says_that_changes_wait(program):
    with program.mounted("--read-write", "--commit-quiet=1000") as top:
        (top / "home" / "one").mkdir()
        written = write(top / "home" / "one", range(3))
        processes = program.processes()
        for process in processes.values():
            os.kill(process, signal.SIGSTOP)
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
        done = program.run("unmount", top, check=7)
        assert "recover" in done.stderr
        assert mounts.mounted(top) is None
    said = program.run("mount", program.mountpoint, check=0).stderr
    assert "died with changes; `arvfuse recover`" in said
    program.run("unmount", program.mountpoint, check=0)
    with program.mounted() as top:  # read-only: says so, and replays nothing
        assert os.listdir(top / "home" / "one") == []
        assert len(program.status()["recovery"]["waiting"]) == 1
        assert "recover" in program.run("status", check=0).stdout
    check(program, written)


def test_unmount_waits_for_the_last_process_of_a_mount_that_is_being_killed(program):
    with program.mounted("--read-write", "--commit-quiet=1000", dies=True) as top:
        (top / "home" / "one").mkdir()
        written = write(top / "home" / "one", range(3))
        processes = program.processes()
        others = {name: process for name, process in processes.items() if name != "supervisor"}
        for process in others.values():
            os.kill(process, signal.SIGSTOP)  # killed, but not gone yet, as far as anybody can see
        kill({"supervisor": processes["supervisor"]})
        eventually(lambda: ended(processes["supervisor"]))
        assert "try again" in program.run("unmount", top, check=4).stderr
        unmounting = program.start("unmount", top)
        kill(others)
        _, said = unmounting.communicate(timeout=20)
        assert (unmounting.returncode, "recover" in said) == (7, True)
        assert mounts.mounted(top) is None
    program.run("recover", check=0)
    check(program, written)


def test_a_backend_that_dies_is_replaced_unseen(program):
    with program.mounted("--read-write", "--commit-quiet=0.05") as top:
        (top / "home" / "one").mkdir()
        written = {}
        for round_number in range(4):
            backend = program.processes()["backend"]
            written |= write(top / "home" / "one", range(round_number * 20, round_number * 20 + 15))
            os.kill(backend, signal.SIGKILL)
            written |= write(top / "home" / "one", range(round_number * 20 + 15, round_number * 20 + 20))
            eventually(lambda backend=backend: program.processes()["backend"] != backend)
    check(program, written)


def test_a_mount_over_a_dead_one_releases_and_recovers_it(program):
    with program.mounted("--read-write", "--commit-quiet=1000", dies=True) as top:
        processes = program.processes()
        (top / "home" / "one").mkdir()
        written = write(top / "home" / "one", range(5))
        for process in processes.values():
            os.kill(process, signal.SIGSTOP)
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
        check(program, written)


WRITER = """
import os, sys
top, log, first = sys.argv[1], open(sys.argv[2], "a"), int(sys.argv[3])
number = first
while True:
    size = 3_000_000 if number % 7 == 0 else 40_000 if number % 3 == 0 else 20
    content = (b"%d " % number) * (size // 8)
    try:
        with open(f"{top}/file{number}", "wb") as file:
            file.write(content)
    except OSError:
        sys.exit()  # the mount died: this file was not closed
    log.write(f"{number}\\n")
    log.flush()
    number += 1
"""


@pytest.mark.timeout(400)
def test_twenty_kills_in_the_middle_of_writing_lose_nothing_closed(program, tmp_path):
    """Engine, backend, supervisor, and all three at once, five times each, on either driver, while a process writes
    file after file."""
    log = tmp_path / "closed"
    log.touch()
    victims = [("engine",), ("backend",), ("supervisor",), ("engine", "backend", "supervisor")]
    for round_number in range(20):
        driver = ("kernel", "llfuse")[round_number // 4 % 2]
        with program.mounted(f"--driver={driver}", "--read-write", "--commit-quiet=0.05", dies=True) as top:
            processes = program.processes()
            collection = top / "home" / "one"
            collection.mkdir(exist_ok=True)
            before = len(log.read_text().split())
            first = round_number * 10_000
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(collection), str(log), str(first)])
            eventually(lambda before=before: len(log.read_text().split()) > before + 10)
            chosen = {name: processes[name] for name in victims[round_number % 4]}
            if len(chosen) > 1:
                for process in chosen.values():
                    os.kill(process, signal.SIGSTOP)
            kill(chosen)
            if "backend" in chosen and len(chosen) == 1:
                eventually(lambda old=processes["backend"]: program.processes()["backend"] != old)
                writer.kill()
            else:
                eventually(lambda processes=processes: all(ended(process) for process in processes.values()))
            writer.wait(20)
            if len(chosen) == 1:
                eventually(lambda top=top: mounts.mounted(top) is None or "backend" in chosen)  # noqa: B023 # same round
                if mounts.mounted(top) is not None:
                    program.run("unmount", top, check=0)
    closed = [int(number) for number in log.read_text().split()]
    assert len(closed) > 200
    with program.mounted("--read-write") as top:
        for number in closed:
            size = 3_000_000 if number % 7 == 0 else 40_000 if number % 3 == 0 else 20
            assert (top / "home" / "one" / f"file{number}").read_bytes() == (b"%d " % number) * (size // 8), number
    assert list((program.store / "mounts").iterdir()) == []
