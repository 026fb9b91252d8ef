"""What a commit tells about one tree: the value that goes from the committer to the side that wrote the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Outcome(NamedTuple):
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
    text: bytes = b""
    cause: Exception | None = None

    def __repr__(self) -> str:
        return f"<Outcome {self.to_json()}>"

    def to_json(self) -> dict[str, Any]:
        """For a message; text and cause stay behind."""
        return {name: value for name, value in self._asdict().items() if name not in ("text", "cause")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**{**data, "effects": tuple(data.get("effects", ()))})
