"""Mounts served by a process of ``driver_server``: started, told what to do, and never left behind."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arvfuse.drivers.unmounting import unmount
from tests.support import mounts

PATIENCE_S = 30
LIFE_S = 60


class Server:
    """The serving process, and what it says."""

    def __init__(self, driver: str, directory: Path, *arguments: str) -> None:
        self.driver = driver
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        self._errors = (directory / "errors").open("w+")
        command = [sys.executable, "-m", "tests.support.driver_server", driver, str(directory / "engine")]
        self.process = subprocess.Popen(
            [*command, str(self.mountpoint), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors, text=True, start_new_session=True,
        )  # fmt: skip
        mounts.record(self.mountpoint, pids=[self.process.pid])
        self._watchdog = threading.Timer(LIFE_S, self.process.kill)  # a test that hangs in the mount is freed
        self._watchdog.start()
        assert self.line() == "ready", self.errors()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, command: str) -> str:
        """Send a command; what the process says when it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.line()

    def calls(self) -> dict[str, int]:
        """What the kernel has asked for since the last time, by operation."""
        found: dict[str, int] = json.loads(self.tell("log"))
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tell("status"))
        return found

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def unmount(self) -> None:
        """Unmount, and see the process end by itself and in order."""
        unmount(self.mountpoint, timeout_s=PATIENCE_S)
        assert self.line() == "ended", self.errors()
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0, self.errors()

    def sweep(self) -> None:
        """Whatever happened: no mount and no process is left."""
        self._watchdog.cancel()
        self._watchdog.join()
        if mounts.mounted(self.mountpoint) is not None:
            mounts.detach(self.mountpoint)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        mounts.forget(self.mountpoint)
        self._errors.close()


@contextmanager
def served(driver: str, directory: Path, *arguments: str) -> Iterator[Server]:
    """A server for the block; it has to end in order, unless the block failed."""
    server = Server(driver, directory, *arguments)
    try:
        yield server
        if server.process.poll() is None:
            server.unmount()
    finally:
        server.sweep()


def code_of(call: object, *arguments: object) -> str:
    """The name of the errno that *call* fails with."""
    with pytest.raises(OSError) as raised:
        call(*arguments)  # type: ignore[operator]
    assert raised.value.errno is not None
    return errno.errorcode[raised.value.errno]
