"""What a commit tells about one tree: the value that goes from the committer to the side that wrote the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one tree in a commit up to *seq*. *error*: nothing was saved and why; all else is kept.

    *text* and *cause* (the exception behind *error*) are for callers in the same process."""

    tree: int
    seq: int
    uuid: str | None = None
    version: int = 0
    pdh: str = ""
    ours_pdh: str = ""
    moved: str | None = None
    effects: tuple[Any, ...] = ()
    error: str | None = None
    quarantined: str | None = None
    text: bytes = field(default=b"", repr=False, compare=False)
    cause: Exception | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """For a message; text and cause stay behind."""
        names = [name for name in self.__slots__ if name not in ("text", "cause")]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**{**data, "effects": tuple(data.get("effects", ()))})
