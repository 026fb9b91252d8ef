"""Taking over what dead mounts left: their logs are committed by the committer, then their directories go.

Threading: plain calls of one thread. Failure: what could not be committed is named in the result, and its log stays;
one damaged log never keeps another from being recovered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.backend import mountdirs
from arvfuse.backend.mountdirs import MountDirectory
from arvfuse.backend.parts import Parts
from arvfuse.errors import ArvfuseError
from arvfuse.model.collections import MountId
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.putpool import PutPool

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.1  # at the lock of another process, which tells nobody when it ends
_STOP_AFTER: Final = 3  # recoveries that died over one log: whatever is in it, it must not end every backend


class Recovered(NamedTuple):
    """What became of one dead mount: uuids that were committed, what was kept aside, and what is left and why."""

    mount: MountId
    committed: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def recover_log(parts: Parts, path: Path, mount: MountId) -> Recovered:
    """Commit what the log in *path* holds, whose writer is dead. Everything stays where it is."""
    from arvfuse.sdk.commit import Committer  # see later: most mounts find nothing dead

    pool = PutPool()
    try:
        committer = Committer(
            directory=path, mount=mount, store=parts.store, catalog=parts.catalog, clock=parts.clock, pool=pool
        )
        try:
            outcomes = committer.recover()
        finally:
            committer.close()
    except (ArvfuseError, OSError) as error:
        return Recovered(mount=mount, left=(str(error),))
    finally:
        pool.close()
    return summary(mount, outcomes)


def summary(mount: MountId, outcomes: Sequence[Outcome]) -> Recovered:
    """The outcomes of a log's commits as one result."""
    return Recovered(
        mount=mount,
        committed=tuple(o.uuid for o in outcomes if o.uuid and not o.error and not o.quarantined),
        quarantined=tuple(o.quarantined for o in outcomes if o.quarantined),
        left=tuple(f"{o.uuid or f'tree {o.tree}'}: {o.error}" for o in outcomes if o.error),
    )


def recover_mount(parts: Parts, dead: MountDirectory) -> Recovered:
    """Recover a mount that was taken over; its directory goes if nothing is left."""
    if mountdirs.has_changes(dead.path):
        tries = _count_try(dead.path)
        if tries > _STOP_AFTER:
            why = f"its recovery ended {tries - 1} processes; `arvfuse recover --again` tries once more"
            return Recovered(mount=dead.mount, left=(why,))
        result = recover_log(parts, dead.path, dead.mount)
        if result.left:
            _forget_tries(dead.path)
            return result
    else:
        result = Recovered(mount=dead.mount)
    # In this order: without the log the rows mean nothing, but without the rows the log would be applied again.
    dead.remove()
    parts.catalog.forget_applied(dead.mount)
    return result


def recover_all(parts: Parts, *, but: MountId | None = None, again: bool = False) -> list[Recovered]:
    """Recover every dead mount of the store. *again*: also those whose recovery ended three processes."""
    results = []
    for path in mountdirs.mounts_of(parts.directory):
        if path.name == but:
            continue
        dead = mountdirs.take_over(path)
        if dead is None:
            continue
        try:
            if again:
                _forget_tries(path)
            changed = mountdirs.has_changes(path)
            result = recover_mount(parts, dead)
            if changed or result.left:
                log.info("recovered %s", result)
                results.append(result)
        finally:
            dead.unlock()
    return results


def await_draining(parts: Parts, limit_s: float, *, but: MountId | None = None) -> list[MountId]:
    """Wait until no other mount of the store is draining, at most *limit_s*; those that still are."""
    deadline = parts.clock.monotonic() + limit_s
    while True:
        draining = [
            MountId(path.name)
            for path in mountdirs.mounts_of(parts.directory)
            if path.name != but and (path / mountdirs.DRAINING).exists() and mountdirs.is_alive(path)
        ]
        if not draining or parts.clock.monotonic() >= deadline:
            return draining
        parts.clock.sleep(_LOOK_S)


def _count_try(path: Path) -> int:
    """How many recoveries of the log began, this one included, and did not live to see its end."""
    counter = path / "recoveries"
    try:
        tries = int(counter.read_text()) + 1
    except (FileNotFoundError, ValueError):
        tries = 1
    counter.write_text(str(tries))
    return tries


def _forget_tries(path: Path) -> None:
    (path / "recoveries").unlink(missing_ok=True)
