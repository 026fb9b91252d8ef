"""Modules that a mount becomes ready without, and that are read as soon as it is.

Of the version that runs, whatever is installed later. Any thread may read. Failure: logged; whoever needs the module is
told then, and a mount that runs does not end because its files are being replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from typing import Final

log = logging.getLogger(__name__)

BACKEND: Final = (
    "arvfuse.backend.lookups",
    "arvfuse.backend.sweeping",
    "arvfuse.sdk.commit",
    "arvfuse.sdk.hashahead",
    "arvfuse.sdk.repacking",
    "hashlib",
)
"""What a backend reads when it is asked for what they do, or before."""
ENGINE: Final = ("hashlib", "sqlite3")
"""What an engine needs for its first read of a block."""


def read_modules(modules: Iterable[str]) -> None:
    """Import *modules*, those that can be."""
    for module in modules:
        try:
            import_module(module)
        except Exception:
            log.exception("%s cannot be read", module)
