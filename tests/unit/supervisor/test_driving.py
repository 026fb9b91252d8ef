"""Which driver a mount gets, and what it wants of the kernel. The choice on a real mount: tests/mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.drivers.kernel.driver import KernelDriver
from arvfuse.drivers.llfuse_driver import LlfuseDriver
from arvfuse.errors import ArvfuseError
from arvfuse.model.collections import MountId
from arvfuse.settings import Settings
from arvfuse.supervisor.driving import Driver, has_llfuse, make_driver, mount_device, mount_further, wanted
from arvfuse.supervisor.mountinfo import mounted_at
from tests.support import mounts

MOUNT = MountId("test")
PDH = "5d41402abc4b2a76b9719d911017c592+5"


def settings(**values: object) -> Settings:
    return Settings(store=Path("/s"), **values)  # type: ignore[arg-type] # of the test


@pytest.mark.parametrize(
    ("given", "root", "expected"),
    [
        ({"read_write": True}, None, (True, False, False)),
        ({"read_write": True, "no_writeback": True}, None, (False, False, False)),
        ({"read_write": True}, PDH, (True, False, False)),
        ({}, None, (False, True, False)),
        ({}, "zzzzz-4zz18-aaaaaaaaaaaaaaa", (False, True, False)),
        ({}, PDH, (False, True, True)),
        ({"no_writeback": True}, object(), (False, True, False)),
    ],
)
def test_what_is_wanted(given: dict[str, object], root: object, expected: tuple[bool, bool, bool]) -> None:
    """Pages are kept only where they may be written; names never change only in content by its hash."""
    asked = wanted(settings(**given), root)
    assert (asked.writeback, asked.no_open, asked.no_opendir) == expected


def test_llfuse_mounts_by_itself(tmp_path: Path) -> None:
    assert has_llfuse()
    assert mount_device(MOUNT, tmp_path, settings(driver="llfuse")) is None


def test_a_connection_makes_the_kernel_driver(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    driver: Driver = make_driver(writer, MOUNT, tmp_path, settings(latency="sleep"), None, lambda: None)
    assert isinstance(driver, KernelDriver)
    assert driver.status()["latency"] == "sleep"
    driver.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.mounted
def test_further_mounts_are_read_only_and_name_their_engine(tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    mounts.record(place)
    device = mount_further(MOUNT, 7, place, settings(read_write=True))
    entry = mounted_at(place)
    mounts.detach(place)
    mounts.forget(place)
    os.close(device)
    assert entry is not None
    assert (entry.mount, entry.is_further, "ro" in entry.options.split(",")) == (MOUNT, True, True)


@pytest.mark.mounted
def test_without_a_connection_llfuse_is_taken(tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    mounts.record(place)
    try:
        driver: Driver = make_driver(None, MOUNT, place, settings(driver="llfuse"), None, lambda: None)
        assert isinstance(driver, LlfuseDriver)
        assert driver.status()["driver"] == "llfuse"
        assert mounts.mounted(place) is not None
    finally:
        mounts.detach(place)
        mounts.forget(place)
    driver.close()


@pytest.mark.mounted
def test_auto_falls_back_and_kernel_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = tmp_path / "none"
    assert mount_device(MOUNT, nowhere, settings(driver="auto")) is None
    assert "mounted by llfuse instead" in caplog.text
    with pytest.raises(ArvfuseError):
        mount_device(MOUNT, nowhere, settings(driver="kernel"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArvfuseError):
        mount_device(MOUNT, nowhere, settings(driver="auto"))
