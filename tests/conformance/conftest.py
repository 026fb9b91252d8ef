"""The catalog that a conformance test is about: every adapter in its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.ports import Catalog
from tests.support.catalogs import OPENERS
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=OPENERS.values(), ids=list(OPENERS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Callable[[], Any]]:
    """Opens the same store once more."""
    opened = []
    opener = request.param(tmp_path, clock)

    def once_more() -> Catalog:
        opened.append(opener())
        return opened[-1]

    yield once_more
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(reopen: Callable[[], Any]) -> Any:
    return reopen()
