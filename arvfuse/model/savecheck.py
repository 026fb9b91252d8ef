"""What a server demands of a manifest before it saves it.

Pure; any thread may call it. Stricter than reading: what only a lenient reader understands is refused here, with the
line and the reason, so that no record is saved that another client cannot open.
"""

from __future__ import annotations

import re
from typing import Final

from arvfuse.errors import InvalidManifest
from arvfuse.model.escapes import unescape
from arvfuse.model.normalizing import Path, Text, find_collision, lines_of
from arvfuse.model.streams import LOCATOR_RULE, Stream, explain, shown

_WORD: Final = rb"(?:[^\x00-\x20\\]++|\\[0-3][0-7][0-7])+"
_LINE: Final = re.compile(
    rb"(" + _WORD + rb")((?: " + LOCATOR_RULE + rb"(?= ))+)((?: [0-9]++:[0-9]++:" + _WORD + rb")+)"
)
_TOKEN: Final = re.compile(rb" ([0-9]+):([0-9]+):([^ ]+)")
_BAD_ESCAPE: Final = re.compile(rb"\\(?![0-3][0-7][0-7])")
# A component that is empty, "." or "..", in an unescaped path.
_BAD_COMPONENT: Final = re.compile(rb"(?:^|/)\.{0,2}(?:/|\Z)")


def check_for_save(text: Text) -> None:
    """Raise InvalidManifest unless *text* follows the format to the letter: UTF-8, every line ended, single spaces,
    legal names and escapes, no path that is file and directory, no file that reaches past its line's data."""
    length = len(text)
    if length and bytes(text[length - 1 : length]) != b"\n":
        raise InvalidManifest("the last line does not end with a line feed")
    tree: dict[Path, set[bytes]] = {}
    first_line: dict[Path, int] = {}
    for number, _, line in lines_of(text):
        try:
            path, names = _check_line(line)
            for name in names:
                *below, last = name.split(b"/")
                directory = (*path, *below)
                first_line.setdefault(directory, number)
                files = tree.setdefault(directory, set())
                if last != b".":
                    files.add(last)
        except InvalidManifest as error:
            raise InvalidManifest(f"line {number}: {error}") from None
    both = find_collision(tree)
    if both is not None:
        number = next(at for directory, at in first_line.items() if directory[: len(both)] == both)
        raise InvalidManifest(f"line {number}: {shown(b'/'.join(both))} is a file and a directory")


def _check_line(line: bytes) -> tuple[Path, list[bytes]]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidManifest(_reason(line))
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            raise InvalidManifest("not UTF-8") from None
    stream = unescape(match[1])
    if stream != b"." and (not stream.startswith(b"./") or _BAD_COMPONENT.search(stream[2:]) is not None):
        raise InvalidManifest(f"bad stream name {shown(match[1])}")
    total = Stream(match[2].decode("ascii").split()).size
    tokens = _TOKEN.findall(match[3])
    try:
        outside = next((token for token in tokens if int(token[0]) + int(token[1]) > total), None)
    except ValueError:  # more digits than int() takes from text
        raise InvalidManifest("a position or size with too many digits") from None
    if outside is not None:
        raise InvalidManifest(f"{shown(b':'.join(outside))} reaches past the {total} bytes of its blocks")
    names = [unescape(token[2]) for token in tokens] if b"\\" in match[3] else [token[2] for token in tokens]
    for name, token in zip(names, tokens, strict=True):
        if _BAD_COMPONENT.search(name) is not None and not _is_placeholder(name, token):
            raise InvalidManifest(f"bad file name {shown(token[2])}")
    return (() if stream == b"." else tuple(stream[2:].split(b"/"))), names


def _is_placeholder(name: bytes, token: tuple[bytes, bytes, bytes]) -> bool:
    """``0:0:.``, also in a directory below; nothing else may have a dot for its last component."""
    directory, _, last = name.rpartition(b"/")
    return (
        last == b"."
        and not (token[0] + token[1]).strip(b"0")
        and (name == b"." or _BAD_COMPONENT.search(directory) is None)
    )


def _reason(line: bytes) -> str:
    escape = _BAD_ESCAPE.search(line)
    if b"  " in line.strip(b" ") or line.endswith(b" "):
        return "repeated or trailing spaces"
    if escape is not None:
        return f"not an escape of one byte: {shown(line[escape.start() : escape.start() + 4])}"
    if re.search(rb"[\x00-\x1f]", line) is not None:
        return "a control character that is not escaped"
    return explain(line)
