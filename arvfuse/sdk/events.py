"""Words that the library's users compare with: kinds of entries, and events of `subscribe`."""

from __future__ import annotations

from typing import Final

FILE: Final = "file"
COLLECTION: Final = "collection"

ADD: Final = "add"
DEL: Final = "del"
MOD: Final = "mod"
TOK: Final = "tok"
WRITE: Final = "write"
