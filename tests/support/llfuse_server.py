"""A process that serves a mount by the llfuse driver over an in-memory engine, for tests of the driver alone.

``python -m tests.support.llfuse_server DIRECTORY MOUNTPOINT [ro]``: prints ``ready``, serves until it is unmounted,
prints ``ended``. On standard input, a line ``notices N`` queues N notices for names of the root, ``hold`` makes
requests to the backend wait, ``release`` answers them.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from arvfuse.clock import SystemClock
from arvfuse.drivers.llfuse_driver import LlfuseDriver, mount_options
from arvfuse.fusedir.host import Settings
from arvfuse.notify import Notifier
from arvfuse.operations import Operations
from tests.support.engines import FakeEngine


def main() -> None:
    directory, mountpoint, read_only = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["ro"]
    engine = FakeEngine(directory, clock=SystemClock())
    if read_only:
        engine.new_collection("c1", b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n")
        engine.store.put(b"hello")
    driver = LlfuseDriver(
        mountpoint, mount_options(mount_id="test", read_only=read_only, allow_other=False), stall_bound_s=30
    )
    notices = Notifier(driver.mount(), name="test")
    operations = Operations(engine, notices, engine.clock, settings=Settings(read_only=read_only))
    commands = threading.Thread(target=obey, args=(engine, notices), name="commands")
    commands.start()
    print("ready", flush=True)
    driver.serve(operations)
    assert notices.close(10), notices
    driver.close()
    operations.check_invariants()
    engine.close()
    print("ended", flush=True)
    commands.join()  # standard input is closed by the test


def obey(engine: FakeEngine, notices: Notifier) -> None:
    for line in sys.stdin:
        words = line.split()
        if words[0] == "notices":
            for number in range(int(words[1])):
                notices.entry(1, b"name-%d" % number)
        elif words[0] == "hold":
            engine.link.hold = True
        elif words[0] == "release":
            engine.link.hold = False
            while engine.link.waiting:
                engine.link.answer_next()
        print(line.strip(), repr(notices), flush=True)


if __name__ == "__main__":
    main()
