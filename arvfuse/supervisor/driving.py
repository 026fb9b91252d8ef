"""Which driver a mount has, and how its parts are made: by whoever mounts, and by the engine that answers.

``auto`` is the kernel driver where a mount can be made with it, else llfuse where that is installed. The kernel driver
connection is made by the supervisor and handed to the engine; llfuse makes its own there. Threading: plain functions.
Failure: classes of arvfuse.errors, one line.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from arvfuse.drivers.kernel.latency import Latency, Mode
from arvfuse.drivers.kernel.mountpoint import MountOptions, mount, tune
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.errors import ArvfuseError
from arvfuse.model.collections import MountId
from arvfuse.ports import KernelNotices
from arvfuse.settings import Settings
from arvfuse.supervisor.mountinfo import FURTHER, SOURCE_PREFIX

if TYPE_CHECKING:  # the supervisor needs none of what Operations are made of
    from arvfuse.operations import Operations

log = logging.getLogger(__name__)


class Driver(Protocol):
    """What an engine does with either driver."""

    @property
    def notices(self) -> KernelNotices:
        """What the kernel is to be told."""
        ...

    def serve(self, operations: Operations) -> None:
        """Answer requests until the mount is gone."""
        ...

    def tick(self, stall_bound_s: float) -> None:
        """Fail requests that have waited for so long. Called now and then."""
        ...

    def close(self) -> None:
        """Free the connection; nothing is mounted any more."""
        ...

    def status(self) -> dict[str, Any]:
        """For people."""
        ...


def has_llfuse() -> bool:
    """True if the other driver is installed."""
    return importlib.util.find_spec("llfuse") is not None


def mount_device(mount_id: MountId, mountpoint: Path, settings: Settings) -> int | None:
    """Mount by the kernel driver; its descriptor. None: the engine is to mount by llfuse."""
    if settings.driver == "llfuse":
        return None
    options = MountOptions(
        source=f"{SOURCE_PREFIX}{mount_id}",
        subtype=settings.subtype,
        read_only=not settings.read_write,
        allow_other=settings.allow_other,
    )
    try:
        device = mount(mountpoint, options)
    except ArvfuseError as error:
        if settings.driver != "auto" or not has_llfuse():
            raise
        log.warning("%s; mounted by llfuse instead", error)
        return None
    tune(device)
    return device


def mount_further(mount_id: MountId, key: int, mountpoint: Path, settings: Settings) -> int:
    """A read-only mount beside the first, always by the kernel driver; its descriptor."""
    options = MountOptions(
        source=f"{SOURCE_PREFIX}{mount_id}{FURTHER}{key}",
        subtype=settings.subtype,
        read_only=True,
        allow_other=settings.allow_other,
    )
    device = mount(mountpoint, options)
    tune(device)
    return device


def wanted(settings: Settings, root: object) -> Wanted:
    """What the mount asks of the kernel. *root*: as Operations has it."""
    read_only = not settings.read_write
    return Wanted(
        writeback=not read_only and not settings.no_writeback,
        no_open=read_only,
        no_opendir=read_only and isinstance(root, str) and "+" in root,
    )


def make_driver(
    device: int | None, mount_id: MountId, mountpoint: Path, settings: Settings, root: object,
    on_end: Callable[[], None],
) -> Driver:  # fmt: skip
    """The driver of a mount: on the *device* that was made for it, or llfuse, which mounts here and now.

    *on_end*: the mount is gone, but the driver has further ones to serve."""
    if device is not None:
        from arvfuse.drivers.kernel.driver import KernelDriver

        return KernelDriver(device, wanted(settings, root), Latency(Mode(settings.latency)), on_end=on_end)
    # Imported here: nothing else needs it.
    from arvfuse.drivers.llfuse_driver import LlfuseDriver, mount_options

    options = mount_options(
        mount_id=mount_id,
        subtype=settings.subtype,
        read_only=not settings.read_write,
        allow_other=settings.allow_other,
    )
    driver = LlfuseDriver(mountpoint, options, stall_bound_s=settings.stall_bound)
    driver.mount()
    return driver
