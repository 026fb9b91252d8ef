"""``mount``, ``unmount``, ``status`` and ``wait``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from arvfuse.backend import mountdirs
from arvfuse.backend.messages import decode_error
from arvfuse.cli import exits
from arvfuse.cli.options import settings_of
from arvfuse.cli.output import Progress, complain, print_json, show_size
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, NotCommitted, UsageError
from arvfuse.settings import MAX_SECONDS
from arvfuse.supervisor import control
from arvfuse.supervisor.mountinfo import MountEntry, mounted_at, read, real_path

_STATUS_S: Final = 10.0
_GRACE_S: Final = 30.0  # beyond the deadline, for the answer itself
_GONE_S: Final = 5.0


def mount(asked: Any) -> int:
    """Mount; returns when the mount is ready, or with --foreground when it has ended."""
    from arvfuse.supervisor.launch import launch

    return launch(
        settings_of(asked),
        asked.mountpoint,
        os.environ,
        root=asked.collection,
        content=asked.content,
        result=asked.result,
        foreground=asked.foreground,
        ready_fd=asked.ready_fd,
        say=complain,
    )


def unmount(asked: Any) -> int:
    """Have the mount drained and ended; 0 only if everything is committed."""
    if asked.deadline is not None and not 0 <= asked.deadline <= MAX_SECONDS:
        raise UsageError(f"--deadline {asked.deadline:g}: neither negative nor endless; give seconds, or leave it out")
    from arvfuse.supervisor.launch import release_dead

    settings = settings_of(asked)
    entry = _mounted(asked.mountpoint)
    assert entry.mount is not None
    dead = release_dead(asked.mountpoint, os.environ, settings.store)
    if dead is not None:
        return _was_killed(asked.mountpoint, dead)
    directory = control.find(entry.mount, os.environ, settings.store)
    try:
        return _unmount_further(entry, directory, asked) if entry.is_further else _unmount_all(entry, directory, asked)
    except control.Ended:  # the supervisor was killed just now; of the others some live still
        late = Busy(f"{asked.mountpoint}: its supervisor was killed, and the others have not ended yet; try again")
        _await(lambda: not mountdirs.is_alive(directory), late)
        release_dead(asked.mountpoint, os.environ, settings.store)
        return _was_killed(asked.mountpoint, directory)


def _was_killed(mountpoint: Path, directory: Path) -> int:
    if mountdirs.has_changes(directory):
        raise NotCommitted(f"{mountpoint}: its processes were killed; `arvfuse recover` commits what it left")
    return exits.DONE


def _unmount_all(entry: MountEntry, directory: Path, asked: Any) -> int:
    """The engine ends, with all its mounts."""
    progress = Progress(quiet=bool(asked.quiet))
    progress.show(f"committing what is left in {asked.mountpoint} ...")
    request = {"op": "drain", "deadline_s": asked.deadline, "lazy": asked.lazy}
    timeout_s = None if asked.deadline is None else asked.deadline + _GRACE_S
    try:
        answer = control.ask(directory, request, timeout_s=timeout_s)
    finally:
        progress.close()
    if not answer.get("busy") and not answer.get("goes_on"):
        # The answer comes from a process about to end: its mount has left our table in a moment, if not already.
        late = ArvfuseError(f"{entry.mountpoint}: still in the mount table; detach it with `umount --lazy`")
        _await(lambda: entry not in read(), late)
    if asked.json:
        print_json({key: value for key, value in answer.items() if key != "schema"})
    return _report(asked.mountpoint, answer)


def _unmount_further(entry: MountEntry, directory: Path, asked: Any) -> int:
    """One of several mounts of an engine ends; the others go on."""
    request = {"op": "unmount", "mountpoint": str(entry.mountpoint), "lazy": asked.lazy}
    answer = control.ask(directory, request, timeout_s=_GRACE_S)
    if "error" in answer:
        raise decode_error(answer["error"])
    return exits.DONE


def status(asked: Any) -> int:
    """What the mount at a place, or every mount of the store, does."""
    if asked.mountpoint is not None:
        entry = _mounted(asked.mountpoint)
        assert entry.mount is not None
        directories = [control.find(entry.mount, os.environ, settings_of(asked).store)]
    else:
        directories = [
            path for path in mountdirs.mounts_of(settings_of(asked).store) if (path / mountdirs.CONTROL).exists()
        ]
    found = []
    for directory in directories:
        try:
            found.append(control.ask(directory, {"op": "status"}, timeout_s=_STATUS_S))
        except NoSuchEntry:
            if asked.mountpoint is not None:
                raise
    waiting = list(mountdirs.waiting(settings_of(asked).store))
    if asked.json:
        print_json({"mounts": found, "waiting_for_recovery": waiting})
        return exits.DONE
    for each in found:
        print("\n".join(describe(each)))
    for mount_id in waiting:
        print(f"- {mount_id} dead: its changes wait for `arvfuse recover`")
    return exits.DONE


def describe(mount: dict[str, Any]) -> list[str]:
    """Lines about a mount for people, the first for itself, the others indented. *mount*: as its supervisor says."""
    engine: dict[str, Any] = mount["engine"]
    driver: dict[str, Any] = engine.get("driver", {})
    pending = engine.get("pending", [])
    mode = "read-write" if mount["read_write"] else "read-only"
    lines = [f"{mount['mountpoint']} {mount['mount']} {mount['state']} {mode} pending={len(pending)}"]

    def say(what: str, text: str) -> None:
        lines.append(f"  {what:<9} {text}")

    if not engine:
        say("engine", "too busy to answer, or gone")
    if driver:
        protocol = f", protocol {driver['protocol']}" if driver.get("protocol") else ""
        say("driver", f"{driver['driver']}{protocol}")
        if driver.get("features"):
            say("features", ", ".join(driver["features"]))
        if "requests" in driver:
            say("requests", f"{driver['requests']:,} answered, {driver['parked']} waiting, latency {driver['latency']}")
    if engine.get("mounts", 0) > 1:
        say("mounts", f"{engine['mounts']} in this engine")
    if mount["read_write"] and engine:
        spool = f"{show_size(engine['spool_bytes'])} of {show_size(engine['spool_limit_bytes'])} wait to be stored"
        say("spool", f"{spool}, {engine['spool_waiting']} writers held back")
        blocks = ", ".join(f"{count} {state}" for state, count in sorted(engine["blocks"].items()))
        say("blocks", blocks or "none")
        if pending:
            say("pending", ", ".join(pending))
    for trouble in engine.get("troubles", []):
        say("trouble", trouble)
    for mount_id in mount.get("recovery", {}).get("waiting", []):
        say("recovery", f"changes of mount {mount_id} wait for `arvfuse recover`")
    return lines


def wait(asked: Any) -> int:
    """Return when everything written below the paths is committed."""
    code = exits.DONE
    for directory, path in {_holding(path): path for path in asked.paths}.items():
        answer = control.ask(directory, {"op": "wait"}, timeout_s=None)
        code = max(code, _report(path, answer))
    return code


def _report(mountpoint: Path, answer: dict[str, Any]) -> int:
    """Say what is left; the exit code."""
    for holder in answer.get("busy", []):
        complain(f"{mountpoint}: in use by {holder}; end that, or use --lazy")
    if "busy" in answer and not answer["busy"]:
        complain(f"{mountpoint}: in use; find out by whom with lsof, or use --lazy")
    for line in answer.get("left", []):
        complain(f"{mountpoint}: not committed: {line}; it is kept, `arvfuse recover` tries again")
    for line in answer.get("troubles", []):
        complain(f"{mountpoint}: {line}")
    code = int(answer.get("code", exits.FAILED))
    if code == exits.FAILED and not answer.get("troubles"):
        complain(f"{mountpoint}: {answer.get('error', 'its engine had died; everything was committed from its log')}")
    return code


def _mounted(mountpoint: Path) -> MountEntry:
    """Our mount at exactly that place."""
    entry = mounted_at(real_path(mountpoint))
    if entry is None:
        raise NoSuchEntry(str(mountpoint), "nothing is mounted there; see `arvfuse status`")
    if entry.mount is None:
        raise UsageError(f"{mountpoint}: a mount of {entry.kind}, not one of arvfuse; use umount")
    return entry


def _holding(path: Path) -> Path:
    """The directory of our mount in which *path* lies, or of one that just drains."""
    real = real_path(path)
    inside = [entry for entry in read() if entry.mountpoint == real or entry.mountpoint in real.parents]
    best = max(inside, key=lambda entry: len(entry.mountpoint.parts), default=None)
    if best is None or best.mount is None:
        raise NoSuchEntry(str(path), "not in a mount of arvfuse; see `arvfuse status`")
    return control.find(best.mount, os.environ)


def _await(over: Callable[[], bool], late: ArvfuseError) -> None:
    """Return when *over*; *late* if it takes too long."""
    deadline = time.monotonic() + _GONE_S
    while not over():
        if time.monotonic() > deadline:
            raise late
        time.sleep(0.02)
