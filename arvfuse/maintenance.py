"""Repairs of a store that nobody has to have mounted: recovery of what dead mounts left.

Threading: the caller's. Failure: what could not be recovered is named in the results and kept.
"""

from __future__ import annotations

from arvfuse.backend.parts import open_parts
from arvfuse.backend.recovery import Recovered, recover_all
from arvfuse.ports import Clock
from arvfuse.settings import Settings


def recover(settings: Settings, clock: Clock, *, again: bool = False) -> list[Recovered]:
    """Commit the logs of all dead mounts of the store; one result for each that had changes or trouble.

    *again*: also logs over which three recoveries ended without a result."""
    parts = open_parts(settings.store, clock=clock, unsafe_filesystem=settings.unsafe_filesystem)
    try:
        return recover_all(parts, again=again)
    finally:
        parts.close()
