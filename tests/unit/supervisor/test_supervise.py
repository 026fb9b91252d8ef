"""The supervisor's decisions, with processes that are threads of the test: what it tells whom, and when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from arvfuse.backend.messages import Channel
from arvfuse.backend.mountdirs import DRAINING
from arvfuse.clock import SystemClock
from arvfuse.model.collections import MountId
from arvfuse.settings import Settings
from arvfuse.supervisor.control import ask
from arvfuse.supervisor.mounting import Mounting
from arvfuse.supervisor.supervise import Supervisor

PATIENCE_S = 20


class FakeChild:
    """Ends at once when it is asked."""

    def __init__(self, process):
        self.process = process
        self.signals = []

    def has_ended(self, *, wait=False):
        return True

    def send_signal(self, number):
        self.signals.append(number)


class FakeProcesses:
    """An engine and backends that answer in threads. Attributes say how they behave."""

    def __init__(self, place):
        self.place = place
        self.threads = []
        self.heard = []  # what the engine was told
        self.engine = None
        self.backends = []
        self.left = []
        self.dies_at = None  # the engine closes its socket when it hears this
        self.silent = False  # the engine does not end
        self.backend_dies = 0  # so many backends die at once
        self.busy = False
        self.refuse = None  # an error with which a backend starts
        self.prepared = self.prepared_mount = 0

    def start_engine(self, supervisor):
        self.engine = Channel.of_descriptor(os.dup(supervisor.fileno()), self.place)
        self.start(self.run_engine)
        return FakeChild(1)

    def start_backend(self, supervisor, engine):
        channel = Channel.of_descriptor(os.dup(supervisor.fileno()), self.place)
        self.backends.append(channel)
        self.start(lambda: self.run_backend(channel))
        return FakeChild(2)

    def prepare_mount(self):
        self.prepared_mount += 1

    def prepare_end(self):
        self.prepared += 1

    def start_unmount(self, *, lazy):
        if self.busy and not lazy:
            return self.helper("echo target is busy >&2; exit 32")
        if not self.silent and self.engine is not None:
            self.start(self.end_engine)
        return self.helper("exit 0")

    def is_mounted(self):
        return True

    def holders(self):
        return ["cat[1] (/mnt/file)"]

    def helper(self, script):
        return subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True)

    def start(self, body):
        thread = threading.Thread(target=body, daemon=True)  # a test that fails leaves some
        self.threads.append(thread)
        thread.start()

    def run_engine(self):
        while (received := self.engine.receive()) is not None:
            for descriptor in received.descriptors:
                os.close(descriptor)
            do = received.message["do"]
            self.heard.append(do)
            if do == self.dies_at:
                self.engine.shut()
            elif do == "serve":
                self.engine.send({"told": "mounted"})
            elif do == "commit":
                self.engine.send({"told": "committed", "left": self.left, "troubles": []})
            elif do == "status":
                self.engine.send({"told": "status", "status": {"pending": []}})
            elif do == "abandon":
                self.engine.send({"told": "ended", "left": ["one: given up"], "troubles": []})

    def end_engine(self):
        with suppress(OSError):  # it died
            self.engine.send({"told": "unmounted"})
            self.engine.send({"told": "ended", "left": self.left, "troubles": []})

    def run_backend(self, channel):
        if self.backend_dies:
            self.backend_dies -= 1
            channel.shut()
            return
        if self.refuse is not None:
            channel.send({"told": "failed", "error": self.refuse})
        else:
            channel.send({"told": "recovered", "waiting": [], "draining": [], "results": []})
        while (received := channel.receive()) is not None:
            do = received.message["do"]
            if do == "end":
                return
            if do == "finish":
                result = {"mount": "m", "committed": [], "quarantined": [], "left": self.left}
                channel.send({"told": "finished", "result": result})

    def close(self):
        for channel in (self.engine, *self.backends):
            if channel is not None:
                channel.shut()
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        for channel in (self.engine, *self.backends):
            if channel is not None:
                channel.close()


class Run:
    """A supervisor in the test's main thread, and what a test does beside it."""

    def __init__(self, place):
        self.place = place
        self.processes = FakeProcesses(place)
        self.ready = []
        self.became_ready = threading.Event()
        self.actors = []
        self.answers = []
        mounting = Mounting(mount=MountId("m"), directory=place, mountpoint=Path("/mnt"))
        self.supervisor = Supervisor(
            mounting, Settings(store=place, read_write=True), SystemClock(), self.processes, self.tell
        )

    def tell(self, message):
        self.ready.append(message)
        self.became_ready.set()

    def when_mounted(self, act):
        def body():
            assert self.became_ready.wait(PATIENCE_S)
            act()

        thread = threading.Thread(target=body, daemon=True)  # a test that fails leaves some
        self.actors.append(thread)
        thread.start()

    def ask(self, **request):
        self.answers.append(ask(self.place, request, timeout_s=PATIENCE_S))

    def to_the_end(self):
        code = self.supervisor.run()
        self.supervisor.report()
        for thread in self.actors:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        self.processes.close()
        return code


@pytest.fixture
def run(tmp_path):
    handlers = {number: signal.getsignal(number) for number in range(1, 32) if number not in (9, 19)}
    yield Run(tmp_path)
    for number, handler in handlers.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


def test_mounted_drained_and_clean(run):
    run.when_mounted(lambda: run.ask(op="drain"))
    assert run.to_the_end() == 0
    assert run.ready == [{"ready": True, "mount": "m", "recovery": {"waiting": [], "draining": [], "results": []}}]
    assert run.processes.heard == ["link", "serve"]
    assert run.answers[0]["code"] == 0
    assert run.supervisor.is_clean


def test_what_is_left_is_named_and_kept(run):
    run.processes.left = ["one: the store is away"]
    run.when_mounted(lambda: run.ask(op="drain"))
    assert run.to_the_end() == 7
    assert run.answers[0] == {"schema": 1, "code": 7, "left": ["one: the store is away"], "troubles": []}
    assert not run.supervisor.is_clean


def test_a_busy_mount_commits_names_who_holds_it_and_stays(run):
    run.processes.busy = True

    def act():
        run.ask(op="drain")
        assert not (run.place / DRAINING).exists()
        run.ask(op="drain", lazy=True)

    run.when_mounted(act)
    assert run.to_the_end() == 0
    assert run.answers[0]["code"] == 4
    assert run.answers[0]["busy"] == ["cat[1] (/mnt/file)"]
    assert run.answers[1]["code"] == 0


def test_a_dead_engine_is_committed_from_its_log(run):
    run.processes.dies_at = "dump"
    run.when_mounted(lambda: run.ask(op="dump"))
    assert run.to_the_end() == 1
    assert run.supervisor.is_clean


def test_a_dead_engine_whose_log_cannot_be_committed(run):
    run.processes.dies_at = "dump"
    run.processes.left = ["one: away"]
    run.when_mounted(lambda: run.ask(op="dump"))
    assert run.to_the_end() == 7


def test_a_backend_that_dies_is_replaced(run):
    def act():
        run.processes.backends[0].shut()
        run.ask(op="wait")
        run.ask(op="status")
        while run.processes.heard.count("link") < 2:
            run.ask(op="status")
        run.ask(op="drain")

    run.when_mounted(act)
    assert run.to_the_end() == 0
    assert len(run.processes.backends) == 2
    assert run.answers[0] == {"schema": 1, "code": 0, "left": [], "troubles": []}
    assert run.answers[1]["processes"] == {"supervisor": os.getpid(), "engine": 1, "backend": 2}
    assert run.answers[1]["state"] == "serving"


def test_a_backend_that_never_starts_fails_the_mount(run):
    run.processes.backend_dies = 10
    assert run.to_the_end() == 1
    assert run.ready[0]["error"]["class"] == "StoreUnavailable"


def test_a_store_that_cannot_be_opened_fails_the_mount_with_its_reason(run):
    run.processes.refuse = {"class": "Damaged", "message": "catalog.sqlite3: damaged"}
    assert run.to_the_end() == 1
    assert run.ready == [{"error": run.processes.refuse}]


def test_an_engine_that_dies_before_it_mounts(run):
    run.processes.dies_at = "serve"
    assert run.to_the_end() == 1
    assert "error" in run.ready[0]


def test_past_the_deadline_the_engine_gives_up(run):
    run.processes.silent = True

    def act():
        run.processes.engine.send({"told": "unmounted"})
        run.ask(op="drain", deadline_s=0.01)

    run.when_mounted(act)
    assert run.to_the_end() == 7
    assert run.processes.heard[-1] == "abandon"
    assert run.answers[0]["left"] == ["one: given up"]


def test_past_the_deadline_of_a_mount_in_use_it_goes_on(run):
    run.processes.silent = True

    def act():
        run.ask(op="drain", deadline_s=0.01, lazy=True)
        run.processes.end_engine()

    run.when_mounted(act)
    assert run.to_the_end() == 0
    assert run.answers[0]["goes_on"] is True
    assert run.answers[0]["left"] == ["in use by cat[1] (/mnt/file)"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_drain(run, number):
    run.when_mounted(lambda: os.kill(os.getpid(), number))
    assert run.to_the_end() == 0
    assert "DRAIN" not in repr(run.supervisor)


def test_a_second_interrupt_gives_up(run):
    run.processes.silent = True

    def act():
        os.kill(os.getpid(), signal.SIGINT)
        while not (run.place / DRAINING).exists():
            run.ask(op="status")
        os.kill(os.getpid(), signal.SIGINT)

    run.when_mounted(act)
    assert run.to_the_end() == 7
    assert not run.supervisor.is_clean


def test_a_request_that_is_none_is_answered(run):
    def act():
        run.ask(op="dance")
        run.ask(op="detach")

    run.when_mounted(act)
    assert run.to_the_end() == 0
    assert run.answers[0]["error"] == "no request 'dance'"
