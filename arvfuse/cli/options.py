"""From parsed options to settings."""

from __future__ import annotations

import os
from typing import Any

from arvfuse.errors import UsageError
from arvfuse.settings import KEYS, Settings, load, parse_value


def settings_of(asked: Any) -> Settings:
    """The settings of a command: its options, the environment, the config file. UsageError."""
    if getattr(asked, "read_only", False) and getattr(asked, "read_write", False):
        raise UsageError("--read-only and --read-write: cannot be both; choose one")
    given: dict[str, Any] = {}
    for key in KEYS:
        value = getattr(asked, key, None)
        if isinstance(value, str):
            value = parse_value(key, value, f"--{key.replace('_', '-')}")
        given[key] = value
    if getattr(asked, "read_only", False):
        given["read_write"] = False
    elif not given["read_write"]:
        given["read_write"] = None  # not given: the environment or the file may say
    return load(given, os.environ)
