from __future__ import annotations

import errno

import pytest

from arvfuse.errors import ArvfuseError, EntryExists, NoSpace, NotPermitted, ReadOnly, StoreUnavailable
from arvfuse.stores.diskerrors import disk_error, translated


@pytest.mark.parametrize(
    ("code", "doing", "kind"),
    [
        (errno.ENOSPC, "write", NoSpace),
        (errno.EDQUOT, "write", NoSpace),
        (errno.EROFS, "write", ReadOnly),
        (errno.EACCES, "write", NotPermitted),
        (errno.EPERM, "adopt", NotPermitted),
        (errno.EACCES, "read", StoreUnavailable),
        (errno.EIO, "read", StoreUnavailable),
        (errno.EMFILE, "read", StoreUnavailable),
        (errno.ENOENT, "write", StoreUnavailable),
    ],
)
def test_disk_error(code: int, doing: str, kind: type[ArvfuseError]) -> None:
    error = disk_error(OSError(code, "x"), "/store/blocks", doing)
    assert type(error) is kind
    assert "/store/blocks" in str(error)
    assert doing in str(error)
    assert "\n" not in str(error)


def test_translated_keeps_the_cause_and_lets_ours_pass() -> None:
    cause = OSError(errno.EIO, "x")
    with pytest.raises(StoreUnavailable) as caught, translated("/d", "read"):
        raise cause
    assert caught.value.__cause__ is cause
    ours = EntryExists("a")
    with pytest.raises(EntryExists) as passed, translated("/d", "read"):
        raise ours
    assert passed.value is ours
    with translated("/d", "read"):
        pass
