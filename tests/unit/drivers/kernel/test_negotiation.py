"""What is agreed at INIT: what the kernel offers, the mount wants and no mask forbids."""

from __future__ import annotations

import struct

import pytest

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.negotiation import ALWAYS, Agreed, Wanted, agree
from arvfuse.drivers.kernel.wire import Init
from arvfuse.errors import NotSupported
from tests.support.fakekernel import EVERYTHING, init_body


def agreed_on(wanted: Wanted, *, offered: int = EVERYTHING) -> Agreed:
    found, reply = agree(init_body(flags=offered), wanted)
    assert found is not None
    said = wire.INIT_OUT.unpack(reply)
    assert said[3] | said[10] << 32 == found.flags
    return found


@pytest.mark.parametrize("feature", list(Init))
def test_nothing_is_used_that_is_not_offered_or_is_masked(feature: Init) -> None:
    wanted = {"writeback": True, "no_open": True, "no_opendir": True}
    full = agreed_on(Wanted(**wanted))
    without = agreed_on(Wanted(**wanted), offered=EVERYTHING & ~feature)
    masked = agreed_on(Wanted(**wanted, mask=feature))
    assert not without.has(feature)
    if feature is not Init.INIT_EXT:  # says where flags are, and is no feature
        assert not masked.has(feature)
        assert (full.flags & ~feature) | Init.INIT_EXT == masked.flags | Init.INIT_EXT


def test_what_a_mount_wants() -> None:
    plain = agreed_on(Wanted())
    assert plain.flags == ALWAYS | Init.INIT_EXT
    assert not plain.writeback
    assert agreed_on(Wanted(writeback=True)).writeback
    assert agreed_on(Wanted(no_open=True)).has(Init.NO_OPEN_SUPPORT)
    assert agreed_on(Wanted(no_opendir=True)).has(Init.NO_OPENDIR_SUPPORT)
    assert "writeback_cache" in agreed_on(Wanted(writeback=True)).names()
    assert plain.names() == sorted(plain.names())


def test_never_asked_for() -> None:
    """Features that would change what we promise, or that nothing of ours serves."""
    everything = agreed_on(Wanted(writeback=True, no_open=True, no_opendir=True))
    for feature in (
        Init.POSIX_LOCKS, Init.FLOCK_LOCKS, Init.AUTO_INVAL_DATA, Init.POSIX_ACL, Init.DONT_MASK, Init.EXPORT_SUPPORT,
        Init.PASSTHROUGH, Init.SPLICE_READ, Init.SPLICE_WRITE, Init.SETXATTR_EXT, Init.SUBMOUNTS, Init.SECURITY_CTX,
        Init.HANDLE_KILLPRIV, Init.ALLOW_IDMAP, Init.OVER_IO_URING,
    ):  # fmt: skip
        assert not everything.has(feature)


def test_requests_are_as_large_as_the_kernel_lets_them() -> None:
    assert agreed_on(Wanted()).max_write == 1 << 20
    small = agreed_on(Wanted(mask=Init.MAX_PAGES))
    assert small.max_write == 1 << 17
    _, reply = agree(init_body(), Wanted(mask=Init.MAX_PAGES))
    assert wire.INIT_OUT.unpack(reply)[8] == 0


@pytest.mark.parametrize(("theirs", "spoken"), [(31, 31), (38, 38), (wire.MINOR, wire.MINOR), (99, wire.MINOR)])
def test_the_older_minor_is_spoken(theirs: int, spoken: int) -> None:
    agreed, reply = agree(init_body(minor=theirs), Wanted())
    assert agreed is not None
    assert (agreed.minor, wire.INIT_OUT.unpack(reply)[:2]) == (spoken, (7, spoken))


def test_too_old_too_new_and_too_short() -> None:
    with pytest.raises(NotSupported, match=r"7\.31"):
        agree(init_body(minor=30), Wanted())
    with pytest.raises(NotSupported):
        agree(init_body(major=6, minor=99), Wanted())
    assert agree(init_body(major=8, minor=0), Wanted())[0] is None
    with pytest.raises(struct.error):
        agree(init_body()[:15], Wanted())
