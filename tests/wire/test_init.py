"""INIT byte for byte, as kernels of several ages send it, and what is answered."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import Op
from tests.support.fakekernel import Answer, FakeKernel

LENGTH_AND_OP = "68000000 1a000000"  # 104 bytes, INIT
SHORT_AND_OP = "38000000 1a000000"  # 56 bytes
HEAD = "0200000000000000 0000000000000000 00000000 00000000 00000000 0000 0000"
# What Linux 5.4 sends: minor 31, no second flags. Flags: all up to NO_OPENDIR_SUPPORT | EXPLICIT_INVAL_DATA.
LINUX_5_4 = f"{SHORT_AND_OP} {HEAD} 07000000 1f000000 00000200 fbffff03"
# Linux 5.15: minor 34, with MAP_ALIGNMENT, SUBMOUNTS, HANDLE_KILLPRIV_V2 and SETXATTR_EXT
LINUX_5_15 = f"{SHORT_AND_OP} {HEAD} 07000000 22000000 00000200 fbfff33b"
# Linux 6.9: minor 40, INIT_EXT and second flags up to HAS_RESEND
LINUX_6_9 = f"{LENGTH_AND_OP} {HEAD} 07000000 28000000 00000200 fbffff73 f8000000 {'00' * 44}"
ANSWER_HEAD = "50000000 00000000 0200000000000000"
SIZES = "0001 c000 00001000 01000000 0001 0000"  # background 256, congestion 192, writes of 1 MiB, 1 ns, 256 pages


def packed(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (LINUX_5_4, f"{ANSWER_HEAD} 07000000 1f000000 00002000 29e0c502 {SIZES} 00000000 {'00' * 28}"),
        (LINUX_5_15, f"{ANSWER_HEAD} 07000000 22000000 00002000 29e0c112 {SIZES} 00000000 {'00' * 28}"),
        (LINUX_6_9, f"{ANSWER_HEAD} 07000000 28000000 00002000 29e0c552 {SIZES} 18000000 {'00' * 28}"),
    ],
    ids=["5.4", "5.15", "6.9"],
)
def test_golden(sent: str, answered: str) -> None:
    kernel = FakeKernel(Nothing(), Wanted(writeback=True), offered=None)
    kernel.send_raw(packed(sent))
    assert kernel.raw() == [packed(answered)]
    kernel.close()


def test_a_newer_major_is_told_ours_and_asks_again() -> None:
    kernel = FakeKernel(Nothing(), offered=None)
    kernel.send_raw(packed(f"{SHORT_AND_OP} {HEAD} 08000000 00000000 00000200 ffffffff"))
    (answer,) = kernel.raw()
    assert answer[16:24] == packed("07000000 2d000000")
    assert kernel.session.agreed is None
    kernel.send_raw(packed(LINUX_5_4))
    assert kernel.session.agreed is not None
    kernel.close()


@pytest.mark.parametrize("version", ["07000000 1e000000", "06000000 ff000000"])
def test_what_is_too_old_is_refused(version: str) -> None:
    kernel = FakeKernel(Nothing(), offered=None)
    kernel.send_raw(packed(f"{SHORT_AND_OP} {HEAD} {version} 00000200 ffffffff"))
    assert kernel.answers() == [Answer(2, errno.ENOTSUP, b"")]
    kernel.close()


def test_a_short_init_is_refused() -> None:
    kernel = FakeKernel(Nothing(), offered=None)
    assert kernel.ask(Op.INIT, 0, b"\x07\0\0\0").error == errno.EIO
    kernel.close()


class Nothing:
    """Operations that are not asked for anything."""

    uid = gid = 0
    read_only = False

    def __getattr__(self, name: str) -> Any:
        return None
