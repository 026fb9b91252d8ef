"""Identities of records: ``ccccc-ttttt-nnnnnnnnnnnnnnn``, cluster, type and a random rest, all of [0-9a-z].

The cluster part is drawn once, when a store is made, so that records of two stores never share a uuid.
"""

from __future__ import annotations

import os
import string
from typing import Final

COLLECTION: Final = "4zz18"
GROUP: Final = "j7d0g"
USER: Final = "tpzed"

_ALPHABET: Final = string.digits + string.ascii_lowercase


def new_cluster() -> str:
    """A cluster id for a new store."""
    return _draw(5)


def new_uuid(cluster: str, kind: str) -> str:
    """A fresh uuid; *kind* is COLLECTION, GROUP or USER."""
    return f"{cluster}-{kind}-{_draw(15)}"


def system_user(cluster: str) -> str:
    """The owner of the user's home: a name only, there is no record of it."""
    return f"{cluster}-{USER}-{'0' * 15}"


def new_writer() -> str:
    """An id for one opened catalog, by which a feed tells whose change it is."""
    return _draw(15)


def _draw(length: int) -> str:
    """Each letter as likely as any other: bytes that would favour the first ones are drawn again."""
    fair = 256 - 256 % len(_ALPHABET)
    drawn: list[str] = []
    while len(drawn) < length:
        drawn += [_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(length) if byte < fair]
    return "".join(drawn[:length])
