"""The life of a whole mount: made, used, unmounted; busy, given up, seen from another mount. On real /dev/fuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import arvfuse
from arvfuse import session
from arvfuse.errors import ArvfuseError, Busy, NoSuchRecord
from tests.support import mounts
from tests.support.programs import Program, ended, eventually, kill

pytestmark = pytest.mark.mounted


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def holder(path):
    """A process that has *path* open until its standard input is closed."""
    code = "import sys; f = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def let_go(process):
    process.communicate(timeout=20)


def test_what_was_written_is_there_after_unmount_and_mount(program):
    big = os.urandom(70 << 20)
    with program.mounted("--read-write") as top:
        collection = top / "home" / "one"
        collection.mkdir()
        (collection / "a").mkdir()
        (collection / "a" / "small").write_bytes(b"small")
        (collection / "empty").touch()
        (collection / "big").write_bytes(big)
        os.mkdir(os.fsencode(collection) + b"/caf\xe9")
    assert mounts.mounted(program.mountpoint) is None
    assert list((program.store / "mounts").iterdir()) == []
    with program.mounted() as top:
        collection = top / "home" / "one"
        assert (collection / "a" / "small").read_bytes() == b"small"
        assert (collection / "empty").read_bytes() == b""
        assert (collection / "big").read_bytes() == big
        assert os.listdir(os.fsencode(collection)).count(b"caf\xe9") == 1
        with pytest.raises(OSError, match="Read-only"):
            (collection / "new").touch()
        row = mounts.mounted(top)
        assert row is not None
        assert row.kind == "fuse.arvfuse"
        assert row.source.startswith("arvfuse:")
    assert list((program.store / "mounts").iterdir()) == []


def test_closing_files_makes_no_version_each(program):
    with program.mounted("--read-write") as top:
        collection = top / "home" / "many"
        collection.mkdir()
        for number in range(50):
            (collection / f"file{number}").write_bytes(b"x" * number)
    assert program.collections()["many"]["version"] == 2


def test_reading_the_record_commits_what_is_pending(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        collection = top / "home" / "one"
        collection.mkdir()
        (collection / "file").write_bytes(b"foo")
        record = json.loads((collection / ".arvados#collection").read_text())
        assert record["manifest_text"] == ". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:file\n"
        assert program.collections()["one"]["pdh"] == record["portable_data_hash"]


def test_a_quiet_collection_is_committed_without_being_asked(program):
    with program.mounted("--read-write", "--commit-quiet=0.1") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        eventually(lambda: program.collections()["one"]["version"] == 2)


def test_fsync_commits_with_store_durability(program):
    with program.mounted("--read-write", "--durability=store", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        with open(top / "home" / "one" / "file", "wb") as file:
            file.write(b"foo")
            file.flush()
            os.fsync(file.fileno())
            assert program.collections()["one"]["version"] == 2


def test_a_busy_mount_commits_names_the_holder_and_stays(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        user = holder(top / "home" / "one" / "file")
        try:
            done = program.run("unmount", top, check=4)
            assert f"[{user.pid}]" in done.stderr
            assert str(top) in done.stderr
            assert program.collections()["one"]["version"] == 2
            assert (top / "home" / "one" / "file").read_bytes() == b"foo"
        finally:
            let_go(user)
        program.run("unmount", top, check=0)


def test_a_lazy_unmount_waits_for_the_last_user(program):
    with program.mounted("--read-write") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        user = holder(top / "home" / "one" / "file")
        unmounting = program.start("unmount", "--lazy", top)
        eventually(lambda: mounts.mounted(top) is None)
        assert unmounting.poll() is None
        let_go(user)
        assert unmounting.wait(20) == 0
        unmounting.communicate()
    assert program.collections()["one"]["version"] == 2


def test_past_the_deadline_it_says_what_is_not_committed_and_keeps_it(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        os.kill(program.processes()["backend"], signal.SIGSTOP)
        done = program.run("unmount", "--deadline=0.3", top, check=7)
        assert "one" in done.stderr
        assert "recover" in done.stderr
        assert mounts.mounted(top) is None
    assert program.collections()["one"]["version"] == 1
    recovered = program.run("recover", check=0)
    assert recovered.stdout
    assert program.collections()["one"]["version"] == 2
    assert program.run("recover", check=0).stdout == ""


def test_plain_umount_returns_and_the_processes_commit_and_end(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        processes = program.processes()
        command = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*command, str(top)], check=True, timeout=20)
        eventually(lambda: all(ended(process) for process in processes.values()))
    assert program.collections()["one"]["version"] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_foreground_commits_and_ends(program, number):
    mounts.record(program.mountpoint)
    process = program.start("mount", "--read-write", "--foreground", "--commit-quiet=1000", program.mountpoint)
    try:
        eventually(lambda: mounts.mounted(program.mountpoint) is not None)
        (program.mountpoint / "home" / "one").mkdir()
        (program.mountpoint / "home" / "one" / "file").write_bytes(b"foo")
        process.send_signal(number)
        _, complaints = process.communicate(timeout=30)
        assert process.returncode == 0, complaints
    finally:
        process.kill()
        process.communicate()
        mounts.detach(program.mountpoint)
        mounts.forget(program.mountpoint)
    assert program.collections()["one"]["version"] == 2


def test_a_second_interrupt_stops_waiting_and_keeps_the_log(program):
    mounts.record(program.mountpoint)
    process = program.start("mount", "--read-write", "--foreground", "--commit-quiet=1000", program.mountpoint)
    user = None
    try:
        eventually(lambda: mounts.mounted(program.mountpoint) is not None)
        (program.mountpoint / "home" / "one").mkdir()
        (program.mountpoint / "home" / "one" / "file").write_bytes(b"foo")
        user = holder(program.mountpoint / "home" / "one" / "file")
        process.send_signal(signal.SIGINT)
        eventually(lambda: program.collections()["one"]["version"] == 2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 7
    finally:
        process.kill()
        process.communicate()
        mounts.detach(program.mountpoint)
        mounts.forget(program.mountpoint)
        if user is not None:
            let_go(user)
    program.run("recover", check=0)
    assert list((program.store / "mounts").iterdir()) == []


def test_two_mounts_see_each_others_commits(program, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with program.mounted("--read-write", "--commit-quiet=0.1") as one:
        (one / "home" / "shared").mkdir()
        with program.mounted("--read-write", "--commit-quiet=0.1", mountpoint=other) as two:
            (one / "home" / "shared" / "from one").write_bytes(b"1")
            eventually(lambda: (two / "home" / "shared" / "from one").exists())
            assert (two / "home" / "shared" / "from one").read_bytes() == b"1"
            (two / "home" / "shared" / "from two").write_bytes(b"2")
            eventually(lambda: (one / "home" / "shared" / "from two").exists())
            (one / "home" / "shared" / "from two").unlink()
            eventually(lambda: not (two / "home" / "shared" / "from two").exists())
            (two / "home" / "made by two").mkdir()
            eventually(lambda: (one / "home" / "made by two").is_dir())


def test_a_directory_tree_is_removed_with_its_collection(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        collection = top / "home" / "one"
        (collection / "sub").mkdir(parents=True)
        (collection / "sub" / "file").write_bytes(b"foo")
        subprocess.run(["rm", "-rf", str(collection)], check=True, timeout=30)
        assert not collection.exists()
        assert os.listdir(top / "home") == []
    assert program.collections() == {}


def test_a_collection_with_pending_changes_is_renamed(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        (top / "home" / "one").rename(top / "home" / "two")
        (top / "home" / "two" / "more").write_bytes(b"bar")
        assert sorted(os.listdir(top / "home" / "two")) == ["file", "more"]
    assert list(program.collections()) == ["two"]
    with program.mounted() as top:
        assert (top / "home" / "two" / "file").read_bytes() == b"foo"
        assert (top / "home" / "two" / "more").read_bytes() == b"bar"


def test_wait_returns_when_what_was_written_is_committed(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        program.run("wait", top / "home" / "one", check=0)
        assert program.collections()["one"]["version"] == 2


def test_status_names_processes_and_what_is_pending(program):
    with program.mounted("--read-write", "--commit-quiet=1000", "--commit-deadline=1000") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
        status = program.status()
        assert status["state"] == "serving"
        assert set(status["processes"]) == {"supervisor", "engine", "backend"}
        assert status["engine"]["pending"] == [program.collections()["one"]["uuid"]]
        assert str(top) in program.run("status", check=0).stdout


def test_one_collection_as_the_root(program):
    with program.mounted("--read-write") as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(b"foo")
    record = program.collections()["one"]
    for name in (record["uuid"], "home/one", record["pdh"], "one@2"):
        with program.mounted("--collection", name) as top:
            assert (top / "file").read_bytes() == b"foo"
    with program.mounted("--read-write", "--collection", "home/one") as top:
        (top / "more").write_bytes(b"bar")
    assert program.collections()["one"]["version"] == 3
    done = program.run("mount", "--collection", "home/nothing", program.mountpoint, check=3)
    assert done.stderr.startswith("arvfuse: home/nothing: no such collection; `arvfuse collections` ")
    assert done.stderr.count("\n") == 1


def test_the_mount_object_mounts_and_commits(program):
    program.environment["ARVFUSE_STORE"] = str(program.store)
    with arvfuse.Mount(store=program.store, read_write=True) as mount:
        path = mount.path
        (path / "home" / "one").mkdir()
        (path / "home" / "one" / "file").write_bytes(b"foo")
    assert not path.exists()
    with arvfuse.Mount(store=program.store, mountpoint=program.mountpoint, collection="home/one") as mount:
        assert (mount.path / "file").read_bytes() == b"foo"
        user = holder(mount.path / "file")
        try:
            with pytest.raises(Busy, match=str(user.pid)):
                mount.close()
        finally:
            let_go(user)
    with pytest.raises(NoSuchRecord), arvfuse.Mount(store=program.store, collection="home/two"):
        pass


def test_the_content_of_an_unsaved_collection_is_mounted_and_comes_back(program):
    with session.open(program.store) as opened:
        collection = opened.new()
        with collection.open("a/file", "wb") as file:
            file.write(b"foo")
        with collection.open("old", "wb") as file:
            file.write(b"old")
        with arvfuse.Mount(store=program.store, content=collection) as mount:
            assert (mount.path / "a" / "file").read_bytes() == b"foo"
            with pytest.raises(OSError, match="Read-only"):
                (mount.path / "new").touch()
        with arvfuse.Mount(store=program.store, content=collection, read_write=True) as mount:
            (mount.path / "a" / "more").write_bytes(os.urandom(3 << 20))
            (mount.path / "old").unlink()
            content = (mount.path / "a" / "more").read_bytes()
        assert sorted(collection.keys()) == ["a"]
        with collection.open("a/more", "rb") as file:
            assert file.read() == content
        collection.save_new("saved at last")
    assert list(program.collections()) == ["saved at last"]
    assert list((program.store / "mounts").iterdir()) == []


def test_what_a_killed_mount_of_unsaved_content_held_is_kept_as_a_collection(program):
    with session.open(program.store) as opened:
        collection = opened.new()
        with collection.open("file", "wb") as file:
            file.write(b"foo")
        mount = arvfuse.Mount(store=program.store, mountpoint=program.mountpoint, content=collection, read_write=True)
        mount.start()
        (mount.path / "more").write_bytes(b"bar")
        processes = program.processes()
        for process in processes.values():
            os.kill(process, signal.SIGSTOP)
        kill(processes)
        eventually(lambda: all(ended(process) for process in processes.values()))
        mounts.detach(program.mountpoint)
        with pytest.raises(ArvfuseError):
            mount.close()
    program.run("recover", check=0)
    ((_, record),) = program.collections().items()
    assert program.run("ls", record["uuid"], check=0).stdout == "./file\n./more\n"


@pytest.mark.parametrize("driver", ["kernel", "llfuse"])
def test_status_says_what_a_mount_does(program, driver):
    options = (f"--driver={driver}", "--read-write", "--commit-quiet=1000", "--commit-deadline=1000")
    with program.mounted(*options) as top:
        (top / "home" / "one").mkdir()
        (top / "home" / "one" / "file").write_bytes(bytes(3 << 20))
        status = program.status()
        engine = status["engine"]
        assert (status["state"], status["read_write"], engine["driver"]["driver"]) == ("serving", True, driver)
        assert engine["pending"] == [program.collections()["one"]["uuid"]]
        assert engine["spool_limit_bytes"] > engine["spool_bytes"] >= 3 << 20
        assert (engine["blocks"], engine["troubles"], engine["spool_waiting"]) == ({"writable": 1}, [], 0)
        if driver == "kernel":
            assert {"writeback_cache", "max_pages", "parallel_dirops"} <= set(engine["driver"]["features"])
            assert engine["driver"]["protocol"].startswith("7.")
            assert engine["driver"]["requests"] > 5
        said = program.run("status", top, check=0).stdout
        assert f"  driver    {driver}" in said
        assert " MiB of " in said
