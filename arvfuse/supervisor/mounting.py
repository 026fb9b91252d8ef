"""What is mounted where: what launcher, supervisor and engine know of one mount. A value."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from arvfuse.model.collections import MountId


class Mounting(NamedTuple):
    """What is mounted where. *root*: what a user calls a collection, None for the whole store.

    *content*: a file with a manifest text that no record has, mounted instead; when everything is committed at the
    end, *result* is a file with what it has become."""

    mount: MountId
    directory: Path
    mountpoint: Path
    root: str | None = None
    content: Path | None = None
    result: Path | None = None
