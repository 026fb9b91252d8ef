"""The control socket: found by id, one line in, one line out, nobody waits for ever."""

from __future__ import annotations

import os
import socket
import stat
import threading

import pytest

from arvfuse.backend import mountdirs
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, NotPermitted
from arvfuse.supervisor.control import Connection, Ended, ask, find, find_dead, listen, register, registry


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run")}


def serve(directory, answer):
    """A mount in a thread that answers one request, or hangs up."""
    listener = listen(directory)
    listener.setblocking(True)

    def run():
        end, _ = listener.accept()
        end.recv(100)
        if answer:
            end.sendall(answer)
        end.close()
        listener.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_registry_is_ours_alone(environment, tmp_path):
    path = registry(environment, create=True)
    assert path == tmp_path / "run" / "arvfuse"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert registry({"XDG_RUNTIME_DIR": "relative"}) == registry({})
    path.chmod(0o777)
    with pytest.raises(NotPermitted, match="ours alone"):
        registry(environment)


def test_a_registered_mount_is_found_while_it_lives(environment, tmp_path):
    made = mountdirs.create(tmp_path)
    with pytest.raises(NoSuchEntry):
        find(made.mount, environment)
    link = register(made.path, made.mount, environment)
    assert link.is_symlink()
    with pytest.raises(NoSuchEntry):
        find(made.mount, environment)
    listener = listen(made.path)
    assert stat.S_IMODE((made.path / "control").stat().st_mode) == 0o600
    assert find(made.mount, environment) == made.path
    assert find(made.mount, {"XDG_RUNTIME_DIR": "/nonexistent"}, tmp_path) == made.path
    assert find_dead(made.mount, environment) is None
    listener.close()
    made.unlock()
    assert find_dead(made.mount, environment) == made.path
    assert find_dead("unknown1", environment, tmp_path) is None


def test_links_to_recovered_mounts_are_pruned(environment, tmp_path):
    gone = register(tmp_path / "gone", "gone0000", environment)
    register(tmp_path, "here0000", environment)
    assert not gone.is_symlink()


def test_an_answer_comes_back(tmp_path):
    thread = serve(tmp_path, b'{"schema": 1, "code": 0}\n')
    assert ask(tmp_path, {"op": "status"}, timeout_s=20) == {"schema": 1, "code": 0}
    thread.join()


def test_a_mount_that_ends_without_an_answer_is_an_error(tmp_path):
    thread = serve(tmp_path, b"")
    with pytest.raises(ArvfuseError, match="without an answer"):
        ask(tmp_path, {"op": "status"}, timeout_s=20)
    thread.join()
    with pytest.raises(Ended):
        ask(tmp_path, {"op": "status"}, timeout_s=20)


def test_a_mount_that_does_not_answer_is_busy(tmp_path):
    listener = listen(tmp_path)
    with pytest.raises(Busy, match="no answer"):
        ask(tmp_path, {"op": "status"}, timeout_s=0.05)
    listener.close()


def test_a_long_path_fits(tmp_path):
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    thread = serve(directory, b"{}\n")
    assert ask(directory, {"op": "status"}, timeout_s=20) == {}
    thread.join()


def test_a_connection_gives_whole_lines_and_drops_nonsense():
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    assert connection.requests() == []
    theirs.sendall(b'{"op": "sta')
    assert connection.requests() == []
    theirs.sendall(b'tus"}\n\n{"op": "wait"}\n')
    assert connection.requests() == [{"op": "status"}, {"op": "wait"}]
    connection.answer({"code": 0})
    assert theirs.recv(100) == b'{"schema": 1, "code": 0}\n'
    for nonsense in (b"not json\n", b"[1]\n"):
        theirs.sendall(nonsense)
        assert connection.requests() is None
    theirs.close()
    assert connection.requests() is None
    connection.answer({"code": 0})
    assert os.get_inheritable(connection.fileno()) is False
    connection.close()
