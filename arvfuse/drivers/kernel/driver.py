"""The driver on /dev/fuse: requests of the kernel's own protocol become calls of ``Operations``, without a C library.

Whoever may mount makes the connection (``mountpoint.mount``) and hands its descriptor in; the mount need not be served
yet. Threading: serve() and close() belong to the main thread of the engine, which becomes the first reader. The process
must never use the mount itself. Failure: serve() returns when the mount is gone, whoever unmounted it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from arvfuse.drivers.kernel.dispatch import Session
from arvfuse.drivers.kernel.latency import Latency
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.readers import Readers
from arvfuse.drivers.notices import DeviceNotices
from arvfuse.operations import Operations


class KernelDriver:
    """The mounts of one engine. *device*: the connection of the first, which is closed with the driver.

    *on_end*: called when the first is gone (others may be served still)."""

    def __init__(
        self, device: int, wanted: Wanted, latency: Latency, *, on_end: Callable[[], None] = lambda: None
    ) -> None:
        self._device: Final = device
        self._wanted: Final = wanted
        self._latency: Final = latency
        self._on_end: Final = on_end
        self._readers: Final = Readers(latency)
        self.notices: Final = DeviceNotices(device)
        self._session: Session | None = None

    def serve(self, operations: Operations) -> None:
        """Answer requests until the last mount is gone."""
        self._session = Session(self._device, operations, self._wanted, on_end=self._on_end)
        self._readers.add(self._session)
        self._readers.serve()

    def add(self, device: int, operations: Operations, wanted: Wanted, *, on_end: Callable[[], None]) -> Session:
        """Answer a further mount too, from now on. Its owner closes the session when *on_end* was called."""
        session = Session(device, operations, wanted, on_end=on_end)
        self._readers.add(session)
        return session

    def tick(self, stall_bound_s: float) -> None:
        """Fail requests that have waited too long. Called now and then, as for the sessions that add() gave."""
        if self._session is not None:
            self._session.fail_stalled(stall_bound_s)

    def close(self) -> None:
        """Close the connection. Notices are not sent any more by now."""
        if self._session is not None:
            self._session.close()
        self.notices.close()

    def status(self) -> dict[str, Any]:
        """What was agreed with the kernel and what is in hand, for people."""
        session = self._session
        agreed = session.agreed if session is not None else None
        return {
            "driver": "kernel",
            "protocol": f"7.{agreed.minor}" if agreed is not None else "",
            "features": agreed.names() if agreed is not None else [],
            "requests": session.requests if session is not None else 0,
            "parked": session.parked if session is not None else 0,
            "latency": self._latency.mode.value,
        }
