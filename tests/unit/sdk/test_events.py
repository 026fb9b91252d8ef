"""Words that users of the ancestor compare with."""

from __future__ import annotations

from arvfuse.sdk import collection
from arvfuse.sdk.events import ADD, COLLECTION, DEL, FILE, MOD, TOK, WRITE


def test_words() -> None:
    assert (ADD, DEL, MOD, TOK, WRITE) == ("add", "del", "mod", "tok", "write")
    assert (FILE, COLLECTION) == (collection.FILE, collection.COLLECTION) == ("file", "collection")
