"""What was asked for: command line, over environment, over config file, as frozen values.

The only module that reads the environment. Keys of the config file are the long options, variables are
``ARVFUSE_<LONG_OPTION>``. Failure: UsageError, one line that names where the bad value stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from arvfuse.errors import UsageError

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_UNITS: Final = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": _MIB,
    "gib": _GIB,
    "tib": 1 << 40,
    "k": 1 << 10,
    "m": _MIB,
    "g": _GIB,
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SECONDS: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*s?\s*")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_PREFIX: Final = "ARVFUSE_"
_CONFIG_VARIABLE: Final = "ARVFUSE_CONFIG"
MAX_SECONDS: Final = 1_000_000_000
"""The longest time an option can say: what every clock and wait can count."""
_MAX_SIZE_BYTES: Final = 8388607 << 40
_MIN_MEMORY_BYTES: Final = 64 * _MIB
_MIN_SPOOL_BYTES: Final = 128 * _MIB


class Settings(NamedTuple):
    """Values of every option that is not of one command alone. Sizes in bytes, times in seconds.

    *spool_bytes* 0: min(8 GiB, a tenth of what is free)."""

    store: Path
    read_write: bool = False
    driver: str = "auto"
    latency: str = "auto"
    durability: str = "local"
    no_writeback: bool = False
    unsafe_filesystem: bool = False
    allow_other: bool = False
    subtype: str = "arvfuse"
    memory: int = 256 * _MIB
    spool_bytes: int = 0
    commit_quiet: float = 1.0
    commit_deadline: float = 30.0
    refresh_time: float = 15.0
    stall_bound: float = 300.0
    logfile: Path | None = None
    debug: bool = False
    quiet: bool = False


# Options whose value is one of a few, with what exists of them in this version.
_CHOICES: Final = {
    "driver": ("auto", "kernel", "llfuse"),
    "durability": ("local", "store"),
    "latency": ("auto", "poll", "sleep"),
}
_SIZES: Final = frozenset({"memory", "spool_bytes"})
_TIMES: Final = frozenset({"commit_quiet", "commit_deadline", "refresh_time", "stall_bound"})
_PATHS: Final = frozenset({"store", "logfile"})
_TEXTS: Final = frozenset({"subtype"})
KEYS: Final = Settings._fields


def parse_size(text: str) -> int:
    """Bytes of ``1048576``, ``64MiB``, ``1.5 GiB``. UsageError."""
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise UsageError(f"{text!r}: not a size; write it like 1048576 or 64MiB")
    from decimal import Decimal  # few command lines say a size, and each would pay for it

    size = int(Decimal(match.group(1)) * unit)
    if size > _MAX_SIZE_BYTES:
        raise UsageError(f"{text!r}: more than anything can hold; give it at most 8388607TiB")
    return size


def parse_seconds(text: str) -> float:
    """Seconds of ``2``, ``0.5`` or ``30s``. UsageError."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r}: not a time in seconds; write it like 15 or 0.5s")
    seconds = float(match.group(1))
    if seconds > MAX_SECONDS:
        raise UsageError(f"{text!r}: too long to wait for; give it at most {MAX_SECONDS} seconds")
    return seconds


def load(given: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings of the options that stand on the command line (*given*: names as in Settings, None: not given)."""
    values: dict[str, Any] = {"store": default_store(environment)}
    for source in (_from_file(environment), _from_environment(environment)):
        values.update(source)
    values.update({key: value for key, value in given.items() if value is not None and key in KEYS})
    settings = Settings(**values)
    return _checked(settings._replace(store=settings.store.expanduser().absolute()))


def default_store(environment: Mapping[str, str]) -> Path:
    """``$XDG_DATA_HOME/arvfuse``."""
    return _base(environment, "XDG_DATA_HOME", ".local/share") / "arvfuse"


def config_path(environment: Mapping[str, str]) -> Path:
    """``$ARVFUSE_CONFIG``, else ``$XDG_CONFIG_HOME/arvfuse/config.yaml``."""
    named = environment.get(_CONFIG_VARIABLE)
    return Path(named) if named else _base(environment, "XDG_CONFIG_HOME", ".config") / "arvfuse" / "config.yaml"


def parse_value(key: str, text: str, where: str) -> Any:
    """The value of option *key* from its text. UsageError that begins with *where*."""
    try:
        if key in _SIZES:
            return parse_size(text)
        if key in _TIMES:
            return parse_seconds(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if key in _PATHS:
        return _parse_path(key, text, where)
    if key in _TEXTS:
        return text
    if key in _CHOICES:
        if text not in _CHOICES[key]:
            raise UsageError(f"{where}: {text!r} is none of {', '.join(_CHOICES[key])}; choose one of them")
        return text
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise UsageError(f"{where}: {text!r} is neither yes nor no; write one of them")


def _parse_path(key: str, text: str, where: str) -> Path:
    if not text:
        raise UsageError(f"{where}: empty; name a path, or leave it out")
    scheme, separator, rest = text.partition("://")
    if key == "store" and separator:
        if scheme != "file" or not rest.startswith("/"):
            raise UsageError(f"{where}: {text!r}: not a store that is known here; name a local directory")
        return Path(rest)
    return Path(text)


def _base(environment: Mapping[str, str], variable: str, below_home: str) -> Path:
    named = environment.get(variable, "")
    return Path(named) if named.startswith("/") else Path(environment.get("HOME", "/")) / below_home


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable == _CONFIG_VARIABLE:
            continue
        key = variable.removeprefix(_PREFIX).lower()
        if key not in KEYS:
            raise UsageError(
                f"environment variable {variable}: no such option; unset it, or see `arvfuse mount --help`"
            )
        values[key] = parse_value(key, text, f"environment variable {variable}")
    return values


def _from_file(environment: Mapping[str, str]) -> dict[str, Any]:
    path = config_path(environment)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if _CONFIG_VARIABLE in environment:
            raise UsageError(f"{path}: no such config file; correct {_CONFIG_VARIABLE}") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}; correct or remove it") from error
    import yaml  # not read where there is no such file: every command would wait for it

    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}; correct or remove it") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise UsageError(f"{path}: not a list of options; write one `option: value` a line")
    values: dict[str, Any] = {}
    for option, value in parsed.items():
        key = str(option).replace("-", "_")
        if key not in KEYS or "_" in str(option):
            raise UsageError(f"{path}: {option}: no such option; remove it, or see `arvfuse mount --help`")
        if value is None or isinstance(value, list | dict):
            raise UsageError(f"{path}: {option}: one value is wanted; write `{option}: value`, or remove it")
        text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        values[key] = parse_value(key, text, f"{path}: {option}")
    return values


def _checked(settings: Settings) -> Settings:
    if settings.memory < _MIN_MEMORY_BYTES:
        raise UsageError(f"--memory {settings.memory}: too little to work with; give it at least 64MiB")
    if 0 < settings.spool_bytes < _MIN_SPOOL_BYTES:
        raise UsageError(f"--spool-bytes {settings.spool_bytes}: less than two blocks; give it at least 128MiB")
    if not settings.subtype or not re.fullmatch(r"[A-Za-z0-9._-]+", settings.subtype):
        raise UsageError(f"--subtype {settings.subtype!r}: letters, digits, dot, dash and underscore only; correct it")
    return settings
