"""The supervisor of one mount: it starts the engine and the backend, obeys signals and commands, and ends them.

One thread, one poll() loop, no database while anything can still be forked. It keeps the lock of the mount's
directory (as the others do), restarts a backend that dies, has the mount detached by executed helpers, and says what
was not committed. Failure: see ``states``; an engine that dies has its mount detached and its log committed by the
backend.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
from collections.abc import Callable
from typing import Any, Final

from arvfuse.backend.messages import Channel, Message, encode_error
from arvfuse.backend.mountdirs import DRAINING, MESSAGES
from arvfuse.errors import ArvfuseError, Busy, StoreUnavailable
from arvfuse.ports import Clock
from arvfuse.settings import Settings
from arvfuse.supervisor.children import Child, Helper, Processes
from arvfuse.supervisor.control import Connection
from arvfuse.supervisor.desk import Desk, For
from arvfuse.supervisor.further import FurtherMounts
from arvfuse.supervisor.mounting import Mounting
from arvfuse.supervisor.signals import SignalPipe
from arvfuse.supervisor.states import Event, State, advance

log = logging.getLogger(__name__)

_CODE_FAILED: Final = 1
_CODE_BUSY: Final = 4
_CODE_NOT_COMMITTED: Final = 7
_RECOVERY_WAIT_S: Final = 12.0  # the backend waits at most 10 s for a draining mount; see server.DRAINING_WAIT_S
_RESTART_DELAYS_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0, 10.0)
_QUIET_AGAIN_S: Final = 60.0  # a backend that lived so long is restarted at once
_RESCUES: Final = 3
_END_WAIT_S: Final = 10.0
_KILL_WAIT_S: Final = 0.5
_STATUS_WAIT_S: Final = 2.0


class Supervisor:
    """run() returns the exit code of the mount; report() tells it to who waits."""

    def __init__(
        self, mounting: Mounting, settings: Settings, clock: Clock, processes: Processes,
        tell_ready: Callable[[Message], None],
    ) -> None:  # fmt: skip
        self._mounting: Final = mounting
        self._processes: Final = processes
        self._messages: Final = mounting.directory / MESSAGES
        self._settings: Final = settings
        self._clock: Final = clock
        self._tell_ready: Final = tell_ready
        self._state = State.STARTING
        self._code = 0
        self._left: list[str] = []
        self._troubles: list[str] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._interrupts = 0
        self._failed_start = False  # it may be mounted, with nobody to answer
        self._signals: Final = SignalPipe()
        self._engine: Channel | None = None
        self._engine_child: Child | None = None
        self._backend: Channel | None = None
        self._backend_child: Child | None = None
        self._backend_born = 0.0
        self._backend_deaths = 0
        self._backend_ready = False
        self._rescues = 0
        self._helpers: list[Helper] = []
        self._desk: Final = Desk(mounting.directory)
        self._further: Final = FurtherMounts(processes, self._tell_engine)
        self._backend_status: Message = {}
        self._recovered: Message = {}

    def __repr__(self) -> str:
        return f"<Supervisor {self._state.name} of {self._mounting.mount} at {self._mounting.mountpoint}>"

    def run(self) -> int:
        """Start everything and see it through."""
        self._start()
        while self._state is not State.OVER:
            self._turn()
        return self._end()

    # the loop

    def _turn(self) -> None:
        handlers: dict[int, Callable[[], None]] = {self._signals.fileno(): self._take_signals}
        if self._engine is not None:
            handlers[self._engine.fileno()] = self._hear_engine
        if self._backend is not None:
            handlers[self._backend.fileno()] = self._hear_backend
        handlers.update(self._desk.handlers(self._obey))
        poll = select.poll()
        for descriptor in handlers:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(self._next_timer_ms()):
            if self._state is State.OVER:
                return
            handlers[descriptor]()
        now = self._clock.monotonic()
        due = [act for at, act in self._timers if at <= now]
        self._timers = [(at, act) for at, act in self._timers if at > now]
        for act in due:
            act()

    def _next_timer_ms(self) -> int | None:
        if not self._timers:
            return None
        return max(0, int((min(at for at, _ in self._timers) - self._clock.monotonic()) * 1000) + 1)

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers.append((self._clock.monotonic() + seconds, act))

    def _move(self, event: Event) -> None:
        old, self._state = self._state, advance(self._state, event)
        log.debug("%s: %s -> %s", event.name, old.name, self._state.name)

    # start

    def _start(self) -> None:
        self._signals.start()
        self._engine, theirs = Channel.pair(self._messages)
        self._engine_child = self._processes.start_engine(theirs)
        theirs.close()
        self._start_backend()
        self._processes.prepare_mount()
        self._after(_RECOVERY_WAIT_S, self._serve)

    def _start_backend(self) -> None:
        ours, theirs = Channel.pair(self._messages)
        engine_end, backend_end = Channel.pair(self._messages)
        self._backend_child = self._processes.start_backend(theirs, backend_end)
        theirs.close()
        backend_end.close()
        self._backend = ours
        self._backend_born = self._clock.monotonic()
        if self._engine is not None:
            self._send(self._engine, {"do": "link"}, engine_end.fileno())
        engine_end.close()
        if self._state is State.RESCUING:
            self._send(ours, {"do": "finish"})

    def _serve(self) -> None:
        """Recovery is done, or has had its time: mount."""
        if self._state is State.STARTING and not self._backend_ready and self._engine is not None:
            self._backend_ready = True
            self._send(self._engine, {"do": "serve"})

    # the engine

    def _hear_engine(self) -> None:
        assert self._engine is not None
        received = self._engine.receive()
        if received is None:
            self._engine_gone()
            return
        message = received.message
        told = message["told"]
        if message.get("key"):
            self._further.hear(message)
        elif told == "resolved":
            self._mount()
        elif told == "mounted":
            self._move(Event.MOUNTED)
            self._tell_ready({"ready": True, "mount": self._mounting.mount, "recovery": self._recovered})
            self._processes.prepare_end()
        elif told == "failed":
            self._fail(message["error"])
        elif told == "unmounted":
            if self._state in (State.SERVING, State.DETACHING):
                self._mark_draining()
                self._move(Event.UNMOUNTED)
        elif told == "gone" and self._state is State.DETACHING:
            self._further.detach_all()
        elif told == "ended":
            self._left, self._troubles = message["left"], message["troubles"]
            self._code = _CODE_NOT_COMMITTED if self._left else _CODE_FAILED if self._troubles else 0
            self._move(Event.ENDED)
        elif told == "committed":
            self._committed(message)
        elif told == "status":
            self._answer_status(message["status"])

    def _mount(self) -> None:
        """The engine knows what is to be mounted: it gets the connection, which is its alone from then on."""
        assert self._engine is not None
        try:
            device = self._processes.mount_device()
        except ArvfuseError as error:
            self._send(self._engine, {"do": "abandon"})
            self._fail(encode_error(error))
            return
        self._send(self._engine, {"do": "device"}, *([] if device is None else [device]))
        if device is not None:
            os.close(device)

    def _engine_gone(self) -> None:
        assert self._engine is not None
        self._engine.close()
        self._engine = None
        log.error("the engine of %s died", self._mounting.mountpoint)
        if self._state is State.STARTING:
            self._failed_start = True
            self._code = _CODE_FAILED
            self._tell_ready({"error": encode_error(ArvfuseError("the engine ended before it mounted; see its log"))})
        self._move(Event.ENGINE_DIED)
        if self._state is State.RESCUING:
            self._mark_draining()
            self._run_helper(lazy=True)  # nothing answers there any more
            self._further.detach_all()
            if self._backend is not None:
                self._send(self._backend, {"do": "finish"})

    # the backend

    def _hear_backend(self) -> None:
        assert self._backend is not None
        received = self._backend.receive()
        if received is None:
            self._backend_gone()
            return
        message = received.message
        told = message["told"]
        if told == "recovered":
            self._recovered = {key: message[key] for key in ("waiting", "draining", "results")}
            for mount in message["waiting"]:
                log.warning("changes of mount %s wait for `arvfuse recover`", mount)
            self._serve()
        elif told == "failed":
            if self._state is State.STARTING:
                self._fail(message["error"])
            else:
                log.error("a backend could not start: %s", message["error"]["message"])
        elif told == "finished":
            result = message["result"]
            self._left, self._troubles = result["left"], result["quarantined"]
            self._code = _CODE_NOT_COMMITTED if self._left else _CODE_FAILED
            if self._state is State.RESCUING:
                self._move(Event.ENDED)
        elif told == "status":
            self._backend_status = message["status"]

    def _backend_gone(self) -> None:
        assert self._backend is not None
        self._backend.close()
        self._backend = None
        now = self._clock.monotonic()
        if now - self._backend_born > _QUIET_AGAIN_S:
            self._backend_deaths = 0
        delay = _RESTART_DELAYS_S[min(self._backend_deaths, len(_RESTART_DELAYS_S) - 1)]
        self._backend_deaths += 1
        log.error("a backend died; the next one starts in %g s and goes on from the log", delay)
        if self._state is State.RESCUING:
            self._rescues += 1
            if self._rescues >= _RESCUES:
                self._left = ["the log could not be committed: the backend died over it"]
                self._code = _CODE_NOT_COMMITTED
                self._move(Event.GIVE_UP)
                return
        if self._state is State.STARTING and self._backend_deaths >= _RESCUES:
            self._fail(encode_error(StoreUnavailable("the backend does not start; see its log")))
            return
        if delay >= 1.0 and self._engine is not None:
            self._send(self._engine, {"do": "no_backend", "why": "the backend died; it is started again"})
        self._after(delay, self._restart_backend)

    def _restart_backend(self) -> None:
        if self._state is not State.OVER and self._backend is None:
            self._start_backend()

    # unmounting

    def _detach(self, *, lazy: bool) -> None:
        if self._state is State.SERVING:
            self._mark_draining()
            self._move(Event.DETACH)
            self._run_helper(lazy=lazy)
        elif self._state is State.DETACHING and lazy:
            self._run_helper(lazy=True)
        elif self._state is State.STARTING:
            self._code = _CODE_FAILED
            self._tell_ready({"error": encode_error(ArvfuseError("was told to end before it was mounted"))})
            self._move(Event.GIVE_UP)

    def _run_helper(self, *, lazy: bool) -> None:
        self._helpers.append(self._processes.start_unmount(lazy=lazy))

    def _helpers_ended(self) -> None:
        ended = [helper for helper in self._helpers if helper.poll() is not None]
        self._helpers = [helper for helper in self._helpers if helper not in ended]
        self._further.helpers_ended()
        for helper in ended:
            self._helper_ended(helper, helper.communicate()[1].strip())

    def _helper_ended(self, helper: Helper, said: str) -> None:
        if helper.returncode == 0 or self._state is not State.DETACHING:
            return
        if not self._processes.is_mounted():
            return  # somebody was faster: the engine says so
        log.warning("%s: %s", self._mounting.mountpoint, said)
        self._move(Event.BUSY)
        self._mark_draining(False)
        assert self._engine is not None
        self._send(self._engine, {"do": "commit", "keep_previous": True})

    def _committed(self, message: Message) -> None:
        """The engine committed what was pending: after a busy unmount, or for a `wait`."""
        left, troubles = message["left"], message["troubles"]
        if self._state is State.SERVING:
            used_by = self._processes.holders()
            if self._desk.has(For.END) or self._interrupts:
                log.warning("%s: in use by %s", self._mounting.mountpoint, ", ".join(used_by) or "somebody")
            self._desk.answer(For.END, {"code": _CODE_BUSY, "busy": used_by, "left": left, "troubles": troubles})
        self._desk.answer(For.COMMIT, {"code": _CODE_NOT_COMMITTED if left else 0, "left": left, "troubles": troubles})

    def _past_deadline(self, client: Connection) -> None:
        if not self._desk.waits(client, For.END):
            return
        if self._state is State.DRAINING and self._engine is not None:
            self._send(self._engine, {"do": "abandon"})  # it says what is left, and we end with 7
            self._after(_END_WAIT_S, self._give_up)
            return
        if self._state is State.RESCUING:
            self._left = ["the log of the dead engine"]
            self._give_up()
            return
        left = [f"in use by {used_by}" for used_by in self._processes.holders()]
        self._desk.answer_one(client, {"code": _CODE_NOT_COMMITTED, "left": left, "troubles": [], "goes_on": True})

    def _give_up(self) -> None:
        """Stop waiting; the log is kept."""
        if self._state is State.OVER:
            return
        if self._state in (State.SERVING, State.DETACHING):
            self._run_helper(lazy=True)
            self._further.detach_all()
        self._code = _CODE_NOT_COMMITTED
        self._left = self._left or ["not known: the mount was ended before it had said"]
        self._move(Event.GIVE_UP)

    def _mark_draining(self, on: bool = True) -> None:
        marker = self._mounting.directory / DRAINING
        if on:
            marker.touch()
        else:
            marker.unlink(missing_ok=True)

    def _fail(self, error: Message) -> None:
        self._failed_start = True
        self._code = _CODE_FAILED
        self._tell_ready({"error": error})
        self._move(Event.GIVE_UP)

    # signals and commands

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
                self._helpers_ended()
            elif number == signal.SIGUSR2:
                self._dump()
            elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) and self._state is not State.OVER:
                if number == signal.SIGINT:
                    self._interrupts += 1
                if self._interrupts > 1:
                    self._give_up()
                else:
                    self._detach(lazy=False)

    def _reap(self) -> None:
        for child in (self._engine_child, self._backend_child):
            if child is not None:
                child.has_ended()

    def _dump(self) -> None:
        log.info("%r", self)
        if self._engine is not None:
            self._send(self._engine, {"do": "dump"})
        if self._backend_child is not None:
            self._backend_child.send_signal(signal.SIGUSR2)

    def _obey(self, client: Connection, request: dict[str, Any]) -> None:
        op = request.get("op")
        if op in ("drain", "detach"):
            self._desk.wait(client, For.END)
            if request.get("deadline_s") is not None:
                self._after(float(request["deadline_s"]), lambda: self._past_deadline(client))
            self._detach(lazy=bool(request.get("lazy")) or op == "detach")
        elif op in ("mount", "unmount"):
            if self._state is State.SERVING:
                (self._further.mount if op == "mount" else self._further.unmount)(client, request)
            else:
                client.answer({"code": _CODE_BUSY, "error": encode_error(Busy("the mount is ending; use another"))})
        elif op == "wait":
            mounted = self._engine is not None and self._state in (State.SERVING, State.DETACHING)
            self._desk.wait(client, For.COMMIT if mounted else For.END)
            if mounted and self._engine is not None:
                self._send(self._engine, {"do": "commit"})
        elif op == "status":
            self._desk.wait(client, For.STATUS)
            for channel in (self._backend, self._engine):
                if channel is not None:
                    self._send(channel, {"do": "status"})
            self._after(_STATUS_WAIT_S, lambda: self._answer_status_late(client))
        elif op == "dump":
            self._dump()
            client.answer({"code": 0})
        else:
            client.answer({"code": _CODE_FAILED, "error": f"no request {op!r}"})

    def _answer_status(self, engine: Message) -> None:
        self._desk.answer(For.STATUS, self._status(engine))

    def _answer_status_late(self, client: Connection) -> None:
        if self._desk.waits(client, For.STATUS):
            self._desk.answer_one(client, self._status({}))  # the engine is too busy to say

    def _status(self, engine: Message) -> Message:
        return {
            "code": 0,
            "state": self._state.name.lower(),
            "mount": self._mounting.mount,
            "mountpoint": str(self._mounting.mountpoint),
            "store": str(self._settings.store),
            "read_write": self._settings.read_write,
            "further_mounts": len(self._further),
            "processes": self._process_ids(),
            "engine": engine,
            "backend": self._backend_status,
            "recovery": self._recovered,
        }

    # the end

    def _end(self) -> int:
        """End the processes."""
        if self._backend is not None:
            self._send(self._backend, {"do": "end"})
        if self._engine_child is not None and self._code == _CODE_NOT_COMMITTED:
            self._engine_child.send_signal(signal.SIGKILL)  # it may wait for a user of a mount that is detached lazily
        for child in (self._engine_child, self._backend_child):
            if child is not None:
                self._await_end(child)
        for channel in filter(None, (self._engine, self._backend)):
            channel.close()
        if self._failed_start and self._processes.is_mounted():
            self._run_helper(lazy=True)
        for helper in self._helpers:
            helper.communicate(timeout=_END_WAIT_S)
        self._further.close(_END_WAIT_S)
        for line in (*self._left, *self._troubles):
            log.warning("%s", line)
        return self._code

    def report(self) -> None:
        """After run(), and when everything else is done too: tell who waits for the end how it was."""
        answer = {"code": self._code, "left": self._left, "troubles": self._troubles}
        self._desk.answer(For.END, answer)
        self._desk.answer(For.COMMIT, answer)
        self._desk.close()
        self._signals.close()

    @property
    def is_clean(self) -> bool:
        """True after run() if nothing is left that a recovery would need."""
        return self._state is State.OVER and self._code != _CODE_NOT_COMMITTED

    def _process_ids(self) -> dict[str, int]:
        known = {"engine": self._engine_child, "backend": self._backend_child}
        return {"supervisor": os.getpid()} | {name: child.process for name, child in known.items() if child is not None}

    def _await_end(self, child: Child) -> None:
        # What is not committed by now stays in the log: nothing is lost by not waiting for those who could not.
        patience_s = _KILL_WAIT_S if self._code == _CODE_NOT_COMMITTED else _END_WAIT_S
        deadline = self._clock.monotonic() + patience_s
        while not child.has_ended():
            left = deadline - self._clock.monotonic()
            if left <= 0:
                log.error("%r does not end; it is killed", child)
                child.send_signal(signal.SIGKILL)
                child.has_ended(wait=True)
                return
            select.select([self._signals], [], [], left)  # SIGCHLD wakes us
            self._signals.take()

    def _tell_engine(self, message: Message, *descriptors: int) -> None:
        if self._engine is not None:
            self._send(self._engine, message, *descriptors)

    def _send(self, channel: Channel, message: Message, *descriptors: int) -> None:
        with contextlib.suppress(OSError):  # it is gone: its end of the socket tells, and what to do is decided there
            channel.send(message, descriptors=descriptors)
