"""Changes of records, from the catalog's feed to the engine.

``FeedPump`` owns one feed and one thread. Failure: an outage of the catalog is waited out; the feed goes on where it
was, so nothing is missed.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from arvfuse.backend.messages import Channel, encode_change
from arvfuse.errors import ArvfuseError
from arvfuse.ports import ChangeFeed

log = logging.getLogger(__name__)

_LOOK_S: Final = 15.0
_OUTAGE_S: Final = 5.0
_BATCH: Final = 500


class FeedPump:
    """Sends ``changed`` events; a change made by *writer* (ourselves) is marked ``echo``."""

    def __init__(self, feed: ChangeFeed, engine: Channel, *, writer: str) -> None:
        self._feed: Final = feed
        self._engine: Final = engine
        self._writer: Final = writer
        self._ending: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="feed-pump")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Close the feed and join. Harmless when repeated."""
        self._ending.set()
        self._feed.close()
        if self._thread.is_alive():
            self._thread.join()

    def pump(self, timeout_s: float) -> int:
        """Wait for changes at most so long and send them; how many. StoreUnavailable, ConnectionError."""
        changes = self._feed.wait(timeout_s)
        for start in range(0, len(changes), _BATCH):
            batch = [
                encode_change(change) | {"echo": change.writer == self._writer}
                for change in changes[start : start + _BATCH]
            ]
            self._engine.send({"event": "changed", "changes": batch})
        return len(changes)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.pump(_LOOK_S)
            except ArvfuseError as error:
                log.warning("changes of records: %s", error)
                self._ending.wait(_OUTAGE_S)
            except OSError:
                return  # the engine is gone; whoever reads its socket sees that too
            except Exception:  # top of the thread
                log.exception("changes of records are not told any more")
                return
