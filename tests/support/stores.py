"""Block stores for tests: every adapter, wrapper and fake by name, and content that is hard to come by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from arvfuse.model.checks import piece_checks
from arvfuse.ports import BlockStore
from arvfuse.stores.cached import Cached
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.localdir import LocalDir, open_store
from arvfuse.stores.memory import MemoryStore
from arvfuse.stores.retrying import Retrying
from arvfuse.stores.shelves import DirectoryShelf, MemoryShelf

# Two contents with the md5 79054025255fb1a26e4bc422aef54eb4 (Wang et al., 2004).
COLLIDING: Final = (
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a"
        "085125e8f7cdc99fd91dbdf280373c5bd8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    ),
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a"
        "085125e8f7cdc99fd91dbd7280373c5bd8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
    ),
)


class StillClock:
    """Time that moves when somebody sleeps, by exactly that much."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = now_ns
        self.slept_s: list[float] = []

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


def noise(size: int, seed: int = 0) -> bytes:
    """*size* bytes that do not repeat, the same for the same seed."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def spooled(path: Path, data: bytes) -> tuple[Path, str, int, bytes]:
    """A finished file at *path* and the other arguments of adopt()."""
    path.write_bytes(data)
    path.chmod(0o444)
    return path, md5(data), len(data), piece_checks(data)


def flip(path: Path, offset: int = 0) -> None:
    """Turn one bit of a file, whatever its mode."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
    path.chmod(mode & 0o777)


def local(directory: Path) -> LocalDir:
    """A store on *directory*, made if it is not there; tests may run on an overlay."""
    return open_store(directory, clock=StillClock(), create=True, unsafe_filesystem=True)


def _stack(directory: Path) -> BlockStore:
    inner = Retrying(Faulty(local(directory / "store")), attempts=2, clock=StillClock(), uniform=lambda: 0.5)
    return Cached(inner, DirectoryShelf(directory / "cache", 1 << 22), line_bytes=1 << 17)


STORES: Final[Mapping[str, Callable[[Path], BlockStore]]] = MappingProxyType(
    {
        "memory": lambda _: MemoryStore(),
        "localdir": local,
        "cached-memory": lambda _: Cached(MemoryStore(), MemoryShelf(1 << 22)),
        "cached-directory": lambda directory: Cached(MemoryStore(), DirectoryShelf(directory, 1 << 22)),
        "cached-lines": lambda directory: Cached(MemoryStore(), DirectoryShelf(directory, 1 << 22), line_bytes=1 << 16),
        "cached-nothing-fits": lambda _: Cached(MemoryStore(), MemoryShelf(1)),
        "retrying": lambda _: Retrying(MemoryStore(), attempts=3, clock=StillClock(), uniform=lambda: 0.5),
        "faulty": lambda _: Faulty(MemoryStore()),
        "stack": _stack,
    }
)
