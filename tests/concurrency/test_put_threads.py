"""Put threads that read one log at the same time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.sdk.log import log_path
from arvfuse.sdk.pack import PACK_BELOW
from arvfuse.sdk.putpool import PUT_THREADS
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, put_file, saved_contents
from tests.support.stores import noise


def test_put_threads_that_open_a_log_at_once_leave_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stayed would keep the log's bytes on the disk for as long as the backend lives."""
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    both, really, opened = threading.Barrier(PUT_THREADS, timeout=60), os.open, []

    def meeting(path: Path, flags: int, *mode: int) -> int:
        fd = really(path, flags, *mode)
        if threading.current_thread().name.startswith("put") and path == log:
            opened.append(fd)
            both.wait()
        return fd

    with Session(tmp_path / "m", store=store, catalog=catalog) as session:
        record = catalog.create(name="c")
        tree = session.open(record)
        data = {b"%d" % number: noise(PACK_BELOW, number) for number in range(PUT_THREADS)}
        for name, content in data.items():
            put_file(tree, name, content)
        log = log_path(session.directory, session.workspace.shared.log.file_number)
        monkeypatch.setattr(os, "open", meeting)
        session.committed()
        monkeypatch.undo()
        assert len(opened) == PUT_THREADS
        assert not [fd for fd in opened if os.path.realpath(f"/proc/self/fd/{fd}") == str(log)]
        assert saved_contents(catalog, store, record.uuid) == {(name,): content for name, content in data.items()}
