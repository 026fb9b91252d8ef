"""A catalog that fails on demand, as ``stores.faulty`` does for blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arvfuse.errors import CommitConflict, StoreUnavailable
from arvfuse.ports import Catalog


class FaultyCatalog:
    """*catalog*, but the next calls of a verb go as ``script[verb]`` says: ok, FAIL (before any effect), AFTER (the
    effect happened, the answer was lost), CONFLICT (the record moved). Any thread may call."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.script: dict[str, list[str]] = {}
        self.calls: dict[str, int] = {}

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        effect = getattr(self._catalog, verb)

        def call(*args: Any, **named: Any) -> Any:
            self.calls[verb] = self.calls.get(verb, 0) + 1
            words = self.script.get(verb)
            word = words.pop(0) if words else "ok"
            if word == "CONFLICT":
                raise CommitConflict(f"scripted fault of {verb}")
            if word == "FAIL":
                raise StoreUnavailable(f"scripted fault of {verb}")
            result = effect(*args, **named)
            if word == "AFTER":
                raise StoreUnavailable(f"scripted fault of {verb}: its answer was lost")
            return result

        return call
