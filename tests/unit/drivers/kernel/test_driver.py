"""One mount by the kernel driver, served on a socket pair that stands in for the device, and what it says of itself."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.driver import KernelDriver
from arvfuse.drivers.kernel.latency import Latency, Mode
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import Op
from arvfuse.drivers.notices import encode_inode
from arvfuse.model.manifests import Manifest
from arvfuse.supervisor.driving import Driver
from tests.support.engines import Mounted
from tests.support.fakekernel import init_body, request

PATIENCE_S = 30


def test_it_serves_until_the_connection_ends_and_tells_what_was_agreed(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    theirs.setblocking(False)
    driver = KernelDriver(theirs.detach(), Wanted(writeback=True), Latency(Mode.SLEEP))
    same: Driver = driver
    assert same.status() == {
        "driver": "kernel", "protocol": "", "features": [], "requests": 0, "parked": 0, "latency": "sleep"
    }  # fmt: skip
    serving = threading.Thread(target=driver.serve, args=(mounted.ops,))
    serving.start()
    ours.send(request(Op.INIT, 2, 0, init_body()))
    assert len(ours.recv(4096)) == wire.OUT_HEADER.size + wire.INIT_OUT.size
    status = driver.status()
    assert (status["protocol"], status["requests"]) == (f"7.{wire.MINOR}", 1)
    assert "writeback_cache" in status["features"]
    driver.notices.invalidate_inode(7)
    assert ours.recv(4096) == encode_inode(7, attributes_only=False)
    ours.close()
    serving.join(PATIENCE_S)
    assert not serving.is_alive()
    driver.close()
    mounted.close()


def test_a_driver_that_never_served_can_be_closed() -> None:
    reader, writer = os.pipe()
    driver = KernelDriver(writer, Wanted(), Latency(Mode.SLEEP))
    driver.close()
    os.close(writer)
    assert os.read(reader, 1) == b"", "no duplicate is left"
    os.close(reader)
