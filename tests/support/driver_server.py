"""A process that serves a mount by either driver over an in-memory engine, for tests of the drivers alone.

``python -m tests.support.driver_server DRIVER DIRECTORY MOUNTPOINT [ro] [pdh] [no-writeback] [mask=NUMBER]
[files=NUMBER]``: prints ``ready``, serves until it is unmounted, prints ``ended``. Each line on standard input is
obeyed and answered by one: ``notices N`` queues N notices for names of the root; ``hold`` makes requests to the
backend wait, ``waiting`` says whether one does, ``release`` answers them; ``fail`` makes the next write fail; ``full``
fills the spool, ``room`` empties it; ``status`` is the driver's, after a tick; ``log`` counts the operations called
since it was asked last.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from arvfuse.clock import SystemClock
from arvfuse.drivers.kernel.driver import KernelDriver
from arvfuse.drivers.kernel.latency import Latency, Mode
from arvfuse.drivers.kernel.mountpoint import MountOptions, mount
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.llfuse_driver import LlfuseDriver, mount_options
from arvfuse.errors import NoSpace
from arvfuse.fusedir.host import Settings
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from tests.support.engines import FakeEngine

TEXT = b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n./d 5d41402abc4b2a76b9719d911017c592+5 0:5:g\n"


class Watched(Operations):
    """Counts what is called, and fails a write when told to."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.calls: Counter[str] = Counter()
        self.fail_next_write = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in _COUNTED:
            super().__getattribute__("calls")[name] += 1
        return found

    def write(self, handle: int, offset: int, data: Any, *, taken: bool = False) -> Any:
        if self.fail_next_write:
            self.fail_next_write = False
            raise NoSpace("", "as the test wants")
        return super().write(handle, offset, data, taken=taken)


_NAMES = ("lookup", "getattr", "setattr", "create", "opendir", "readdir", "releasedir", "read_node")
_HANDLES = ("open", "read", "write", "flush", "fsync", "release")
_COUNTED = frozenset((*_NAMES, *_HANDLES))


def main() -> None:
    kind, directory, mountpoint = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    options = sys.argv[4:]
    read_only = "ro" in options
    engine = FakeEngine(directory, clock=SystemClock())
    root = None
    for each in options:
        if each.startswith("files="):
            files = (b"0:%d:file%d" % (number % 6, number) for number in range(int(each.partition("=")[2])))
            engine.new_collection("many", b". 5d41402abc4b2a76b9719d911017c592+5 " + b" ".join(files) + b"\n")
    if read_only:
        record = engine.new_collection("c1", TEXT)
        engine.store.put(b"hello")
        root = record.pdh if "pdh" in options else None
    driver: Any
    if kind == "llfuse":
        driver = LlfuseDriver(
            mountpoint, mount_options(mount_id="test", read_only=read_only, allow_other=False), stall_bound_s=30
        )
        driver.mount()
    else:
        wanted = Wanted(
            writeback=not read_only and "no-writeback" not in options,
            no_open=read_only,
            no_opendir="pdh" in options,
            mask=sum(int(each.partition("=")[2]) for each in options if each.startswith("mask=")),
        )
        device = mount(mountpoint, MountOptions(source="arvfuse:test", read_only=read_only))
        driver = KernelDriver(device, wanted, Latency(Mode.SLEEP))
    notices = Notifier(driver.notices, name="test")
    operations = Watched(engine, notices, engine.clock, settings=Settings(read_only=read_only), root=root)
    commands = threading.Thread(target=obey, args=(engine, notices, operations, driver), name="commands")
    commands.start()
    print("ready", flush=True)
    driver.serve(operations)
    assert notices.close(10), notices
    driver.close()
    operations.check_invariants()
    engine.close()
    print("ended", flush=True)
    commands.join()  # standard input is closed by the test


def obey(engine: FakeEngine, notices: Notifier, operations: Watched, driver: Any) -> None:
    spool = engine.workspace.shared.spool
    for line in sys.stdin:
        words = line.split()
        said: object = notices
        if words[0] == "notices":
            for number in range(int(words[1])):
                notices.entry(1, b"name-%d" % number)
        elif words[0] == "hold":
            engine.link.hold = True
        elif words[0] == "release":
            engine.link.hold = False
            while engine.link.waiting:
                engine.link.answer_next()
        elif words[0] == "waiting":
            said = "waits" if engine.link.waiting else "nobody"
        elif words[0] == "fail":
            operations.fail_next_write = True
        elif words[0] == "full":
            spool.charge(spool.limit + 1)
        elif words[0] == "room":
            spool.credit(spool.limit + 1)
        elif words[0] == "status":
            driver.tick(30.0)  # as an engine does now and then
            said = json.dumps(driver.status())
        elif words[0] == "log":
            said, operations.calls = json.dumps(operations.calls), Counter()
        print(f"{line.strip()} {said}" if words[0] not in ("log", "status") else said, flush=True)


if __name__ == "__main__":
    main()
