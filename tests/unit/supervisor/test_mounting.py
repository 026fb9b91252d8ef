"""What is mounted where."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.model.collections import MountId
from arvfuse.supervisor.mounting import Mounting


def test_a_mounting_is_a_value_with_the_whole_store_as_its_root():
    mounting = Mounting(mount=MountId("m"), directory=Path("/d"), mountpoint=Path("/mnt"))
    assert (mounting.root, mounting.content, mounting.result) == (None, None, None)
    with pytest.raises(AttributeError):
        mounting.root = "other"
