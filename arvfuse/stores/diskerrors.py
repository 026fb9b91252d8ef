"""What an OSError of a disk means to the caller of a store.

The one place of the stores that reads an errno and chooses a class. Full disks are NoSpace, refusals are ReadOnly or
NotPermitted when writing; all else may pass and is StoreUnavailable: an outage is never "no such block".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from arvfuse.errors import ArvfuseError, NoSpace, NotPermitted, ReadOnly, StoreUnavailable


def disk_error(exc: OSError, path: str | os.PathLike[str], doing: str) -> ArvfuseError:
    """The error to raise from *exc*, met while *doing* ("read", "write", ...) something to *path*."""
    name = os.fspath(path)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(name, f"cannot {doing}: no space left in the store")
    if exc.errno == errno.EROFS:
        return ReadOnly(name, f"cannot {doing}: the store is on a read-only file system")
    if exc.errno in (errno.EACCES, errno.EPERM) and doing != "read":
        return NotPermitted(name, f"cannot {doing}: permission denied in the store's directory")
    return StoreUnavailable(f"{name}: cannot {doing}: {os.strerror(exc.errno) if exc.errno else exc}")


@contextmanager
def translated(path: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """Turn any OSError of the body into the store's error; errors of ours pass as they are."""
    try:
        yield
    except ArvfuseError:
        raise  # some of ours are OSErrors too
    except OSError as exc:
        raise disk_error(exc, path, doing) from exc
