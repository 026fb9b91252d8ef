"""How long property tests search: quickly in every run, long when ``HYPOTHESIS_PROFILE=long``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def searching(*, full: int, quick: int = 100) -> Callable[[Any], Any]:
    """Decorator: *full* examples in the long profile, *quick* and always the same ones otherwise.

    A failure prints the example and the line that reproduces it; nothing depends on how fast the machine is."""
    return settings(
        max_examples=full if LONG else quick,
        derandomize=not LONG,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
