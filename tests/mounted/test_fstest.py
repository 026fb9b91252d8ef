"""The stress program, small, on a mount and on a plain directory: every byte comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fstest
from bench.mounting import mounted
from tests.support import mounts

SMALL = ["--small", "--seed", "3"]


@pytest.fixture(scope="module", params=["kernel", "llfuse"])
def mountpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One long-lived read-write mount; leaving it must commit everything."""
    top = tmp_path_factory.mktemp("stressed")
    (top / "store").mkdir()
    mounts.record(top / "mnt")
    with mounted(top / "store", top / "mnt", "--read-write", driver=request.param) as made:
        yield made
    assert mounts.mounted(top / "mnt") is None
    mounts.forget(top / "mnt")


@pytest.mark.mounted
def test_all_scenarios_below_home(mountpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = fstest.main([str(mountpoint), "--sandbox", *SMALL])
    assert code == 0, capfd.readouterr().err


@pytest.mark.mounted
def test_all_scenarios_inside_a_collection(mountpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (mountpoint / "home/one").mkdir()
    code = fstest.main([str(mountpoint / "home/one"), *SMALL])
    assert code == 0, capfd.readouterr().err


def test_all_scenarios_on_a_plain_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = fstest.main([str(tmp_path), *SMALL])
    assert code == 0, capfd.readouterr().err
