"""Forked children: which descriptors and signals they have, and that they are waited for once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from arvfuse.backend import later
from arvfuse.model.collections import MountId
from arvfuse.settings import Settings
from arvfuse.supervisor.children import BACKEND_NICENESS, Child, Processes, fork
from arvfuse.supervisor.mounting import Mounting
from tests.support.programs import environment


def in_a_process(tmp_path, code):
    """A child is forked in an interpreter of its own: this one has threads."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_has_only_its_part_and_leaves_signals_to_the_supervisor(tmp_path):
    code = """
import os, signal
from arvfuse.supervisor.children import fork
other, kept = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
signal.signal(signal.SIGTERM, lambda *_: None)
def body():
    paths = [f"/proc/self/fd/{descriptor}" for descriptor in os.listdir("/proc/self/fd")]
    links = [os.readlink(path) for path in paths if os.path.exists(path)]
    print("/dev/zero" in links, links.count("/dev/null") <= 1, flush=True)
    print([signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)], flush=True)
    return 7
child = fork(body, "test", {kept})
child.has_ended(wait=True)
print(child)
"""
    out = in_a_process(tmp_path, code)
    assert out.startswith("True True\n[True, True, True]\n<Child ")
    assert out.endswith(" ended>\n")
    assert callable(fork)


def test_a_child_may_open_many_files(tmp_path):
    code = """
import os, resource
from arvfuse.supervisor.children import fork
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
def body(): return int(resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard))
child = fork(body, "test", ())
print(os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    assert in_a_process(tmp_path, code) == "1 100\n"


def test_a_child_that_fails_ends_with_its_own_code(tmp_path):
    code = """
import os, logging
from arvfuse.supervisor.children import fork
def body(): raise RuntimeError("odd")
child = fork(body, "test", ())
print(os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1]))
"""
    assert in_a_process(tmp_path, code) == "70\n"


def test_a_child_is_not_signalled_when_it_was_waited_for():
    process = subprocess.Popen(["sleep", "1000"])
    child = Child(process.pid)
    assert not child.has_ended()
    child.send_signal(signal.SIGKILL)
    assert child.has_ended(wait=True)
    child.send_signal(signal.SIGKILL)
    assert child.has_ended()
    assert repr(child) == f"<Child {process.pid} ended>"
    process.returncode = 0  # reaped behind its back


def test_the_helper_says_what_went_wrong(tmp_path):
    mounting = Mounting(mount=MountId("nosuchid"), directory=tmp_path, mountpoint=tmp_path)
    processes = Processes(mounting, Settings(store=tmp_path), ())
    helper = processes.start_unmount(lazy=False)
    _, said = helper.communicate(timeout=20)
    assert helper.returncode != 0
    assert str(tmp_path) in said
    assert not processes.is_mounted()
    assert processes.holders() == []
    assert 0 < BACKEND_NICENESS < 20
    assert os.path.isdir(tmp_path)


def test_who_becomes_ready_reads_only_what_that_takes(tmp_path):
    code = """
import sys
from arvfuse.cli import parser
import arvfuse.cli.mounting, arvfuse.supervisor.launch
parser.build(["mount"]).parse_args(["mount", "/m"])
{rest}
print(*sys.modules)
"""
    engine = "import arvfuse.supervisor.engine, arvfuse.drivers.kernel.driver, arvfuse.backend.parts"
    backend = "import arvfuse.backend.server, arvfuse.backend.parts, arvfuse.catalogs.sqlite"
    idle = {"asyncio", "dataclasses", "hashlib", "inspect", "lzma", "shutil", "subprocess"}
    for rest, more in ((engine, {"sqlite3", "arvfuse.sdk.commit"}), (backend, {"arvfuse.model.merge", *later.BACKEND})):
        read = set(in_a_process(tmp_path, code.format(rest=rest)).split())
        assert "arvfuse.supervisor.launch" in read
        assert not read & (idle | more)


def test_what_comes_later_is_read_before_anyone_may_need_it(tmp_path):
    code = """
import sys
from arvfuse.backend import later
from arvfuse.settings import Settings
from arvfuse.supervisor.children import Processes
processes = Processes(None, Settings(store=None), ())
processes.prepare_mount()
print("ctypes" in sys.modules, "arvfuse.sdk.commit" in sys.modules)
processes.prepare_end()
print({"shutil", "subprocess", *later.BACKEND} - set(sys.modules))
"""
    assert in_a_process(tmp_path, code).splitlines() == ["True False", "set()"]
