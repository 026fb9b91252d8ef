"""Names as they stand in a manifest: spaces, control bytes, colons and backslashes as ``\\ooo``.

Pure functions on bytes; nothing here fails: what is no escape stands for itself. A byte that is no part of UTF-8
text is escaped too, since a manifest has to be UTF-8 as a whole while names are any bytes.
"""

from __future__ import annotations

import re
from typing import Final

_SPECIAL: Final = re.compile(rb"[\x00-\x20:\\]")
_ESCAPED: Final = re.compile(rb"\\(?:([0-3][0-7][0-7])|\\)")
# How surrogateescape shows a byte that is not UTF-8.
_LONE_BYTE: Final = re.compile("[\udc80-\udcff]")


def escape(name: bytes) -> bytes:
    """*name* as a manifest writes it. A ``/`` is not escaped, so a relative path works as well."""
    if _SPECIAL.search(name) is not None:
        name = _SPECIAL.sub(_octal, name)
    if name.isascii():
        return name
    try:
        name.decode()
    except UnicodeDecodeError:
        text = show(name)
        return _LONE_BYTE.sub(lambda match: f"\\{ord(match[0]) - 0xDC00:03o}", text).encode()
    return name


def show(name: bytes) -> str:
    """A name as text for a message; bytes that are not UTF-8 are lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def unescape(text: bytes) -> bytes:
    """The name that *text* stands for. Each ``\\ooo`` up to ``\\377`` is one byte, ``\\\\`` one backslash; any other
    backslash stays literally (and is escaped as ``\\134`` when written again)."""
    if b"\\" not in text:
        return text
    return _ESCAPED.sub(_byte, text)


def _octal(match: re.Match[bytes]) -> bytes:
    return b"\\%03o" % match[0][0]


def _byte(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    return b"\\" if digits is None else bytes((int(digits, 8),))
