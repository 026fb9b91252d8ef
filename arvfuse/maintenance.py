"""Repairs and proofs of a store that nobody has to have mounted: recovery of what dead mounts left, blocks read again.

Threading: the caller's. Failure: what could not be recovered is named in the results and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Final, NamedTuple

from arvfuse.backend.parts import open_blocks, open_parts
from arvfuse.backend.recovery import Recovered, recover_all
from arvfuse.errors import ArvfuseError
from arvfuse.model.locators import Locator
from arvfuse.parallel import Executor, parallel_iterator
from arvfuse.ports import Clock
from arvfuse.settings import Settings

_VERIFY_BYTES: Final = 256 << 20  # of blocks that are read at once


def recover(settings: Settings, clock: Clock, *, again: bool = False) -> list[Recovered]:
    """Commit the logs of all dead mounts of the store; one result for each that had changes or trouble.

    *again*: also logs over which three recoveries ended without a result."""
    parts = open_parts(settings.store, clock=clock, unsafe_filesystem=settings.unsafe_filesystem)
    try:
        return recover_all(parts, again=again)
    finally:
        parts.close()


class Verified(NamedTuple):
    """What became of one block. *error*: why it is not what its name says, or could not be read; None if it is."""

    locator: str
    error: ArvfuseError | None


def verify(settings: Settings, clock: Clock, locators: Iterable[str] | None = None) -> Iterator[Verified]:
    """Read blocks of the store again, whole and from the disk: those of *locators*, or all. One result each, in order.

    The time is noted in the block index of those that are sound. Several are read at once. A generator: closing it
    ends the reading. NoSuchEntry if there is no store."""
    unsafe = settings.unsafe_filesystem
    with closing(open_blocks(settings.store, clock=clock, unsafe_filesystem=unsafe)) as store:

        def look(locator: str) -> Verified:
            try:
                store.verify(locator)
            except ArvfuseError as error:
                return Verified(locator, error)
            return Verified(locator, None)

        def build(executor: Executor) -> Iterator[Iterator[Future[Verified]]]:
            wanted = store.blocks() if locators is None else iter(locators)
            yield (executor.submit(look, each, cost=Locator.parse(each).size) for each in wanted)

        yield from parallel_iterator(build, max_bytes=_VERIFY_BYTES)
