"""arvfuse: the writable mount for content-addressed storage."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arvfuse.supervisor.mount import Mount as Mount

__version__ = "0.1.0"

# Public names that are handed out at first use, so that importing the package costs nothing.
_LAZY = {"Mount": "arvfuse.supervisor.mount"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
