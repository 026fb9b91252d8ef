"""Sizes scaled down, so that a few kilobytes meet every cut, seal, pack, roll-over and repack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from arvfuse.sdk import carrying, content, hashahead, live, pack, repacking, workspace
from arvfuse.sdk import tree as tree_module

PIECE = 4096
SMALL = 600


@contextmanager
def small_sizes() -> Iterator[None]:
    """Pieces of 4 KiB, small files up to 600 bytes, log files of 3,000 bytes."""
    sizes: list[tuple[Any, dict[str, int]]] = [
        (content, {"SMALL_BYTES": SMALL, "INLINE_PARTS": 3, "BLOCK_BYTES": PIECE}),
        (live, {"EARLY_SEAL_BYTES": 1500}),
        (
            pack,
            {
                "PACK_BELOW": SMALL,
                "MANY_SEGMENTS": 6,
                "MOST_SEGMENTS": 12,
                "MANY_BLOCKS": 4,
                "BLOCK_BYTES": PIECE,
                "_READ_BYTES": 700,
            },
        ),
        (repacking, {"PACK_BELOW": SMALL}),
        (tree_module, {"BLOCK_BYTES": PIECE}),
        (hashahead, {"BEGIN_BYTES": 300, "STEP_BYTES": 1000, "GRAIN_BYTES": 1}),
        (carrying, {"SLACK_BYTES": 1000, "_WINDOW_BYTES": 200}),
        (workspace, {"MIN_LOG_FILE_BYTES": 3000, "LOG_FILE_BYTES": 3000}),
    ]
    with ExitStack() as patches:
        for module, values in sizes:
            for name, value in values.items():
                patches.enter_context(patch.object(module, name, value))
        yield
