"""The main job, run on real input: `make demo`.

A frozen copy of the interpreter's standard library and one incompressible 512 MiB file are written through a
read-write mount into a new collection, the store is mounted again read-only, and every byte is compared. Everything
is made in a directory of its own, which is gone afterwards, whatever happened. No threads; exit code 0 if all is as
it must be, else 1 and what was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.mounting import CommandFailed, mounted, workplace

MIB: Final = 1 << 20
BLOCK_NAME: Final = re.compile(r"[0-9a-f]{32}")
SEED: Final = 20240229


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; its exit code."""
    parser = argparse.ArgumentParser(prog="demo", description="Write real input through a mount and read it back.")
    parser.add_argument("--size", type=int, default=512, metavar="MIB", help="size of the big file (512)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to work (the temporary directory)")
    options = parser.parse_args(argv)
    big_bytes = options.size * MIB
    try:
        with workplace("demo", needs_bytes=3 * big_bytes + 1024 * MIB, parent=options.dir) as top:
            demo(top, big_bytes)
    except (CommandFailed, OSError, subprocess.SubprocessError) as problem:
        print(f"demo: FAILED: {problem}", file=sys.stderr)
        return 1
    print("demo: all is there, unchanged")
    return 0


def demo(top: Path, big_bytes: int) -> None:
    """The whole of it, in the directory *top*."""
    store, mountpoint, source = top / "store", top / "mnt", top / "source"
    store.mkdir()
    source.mkdir()
    library_bytes, files = freeze_library(source / "library")
    write_big(source / "big.bin", big_bytes)
    print(
        f"input: {files} files of the standard library, {library_bytes / MIB:.1f} MiB; one of {big_bytes / MIB:.0f} MiB"
    )

    with mounted(store, mountpoint, "--read-write"):
        target = mountpoint / "home/demo"
        target.mkdir()
        started = time.monotonic()
        run("cp", "-r", source / "library", target / "library")
        seconds = time.monotonic() - started
        print(f"cp -r of the library: {rate(library_bytes, seconds)}, {files / seconds:.0f} files/s")
        started = time.monotonic()
        streamed = copy_big(source / "big.bin", target / "big.bin", store / "blocks")
        seconds = time.monotonic() - started
        print(f"copy of the big file: {rate(big_bytes, seconds)}")
        print(
            f"in the store before the last close: {streamed / MIB:.1f} of {(library_bytes + big_bytes) / MIB:.1f} MiB"
        )
        started = time.monotonic()
        pdh = portable_data_hash(target)
        print(f"committed in {time.monotonic() - started:.2f} s more: {pdh}")
        started = time.monotonic()
    print(f"unmounted in {time.monotonic() - started:.2f} s")

    with mounted(store, mountpoint, "--read-only"):
        target = mountpoint / "home/demo"
        if (again := portable_data_hash(target)) != pdh:
            raise CommandFailed(f"the collection is {again} after the remount, and was {pdh}")
        started = time.monotonic()
        run("diff", "-r", source / "library", target / "library")
        print(f"diff -r of the library after a remount: no difference, {time.monotonic() - started:.2f} s")
        started = time.monotonic()
        total = compare_digests(source, target)
        print(f"sha256 of everything: the same, both sides in {rate(total, time.monotonic() - started)}")


def rate(count: int, seconds: float) -> str:
    """How long *count* bytes took, and how fast that is."""
    return f"{seconds:.2f} s, {count / max(seconds, 1e-9) / MIB:.1f} MiB/s"


def freeze_library(target: Path) -> tuple[int, int]:
    """Copy the standard library, links followed, without what is installed or compiled; (bytes, files)."""
    unwanted = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__")
    library = sysconfig.get_path("stdlib")
    shutil.copytree(library, target, symlinks=False, ignore_dangling_symlinks=True, ignore=unwanted)
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def write_big(path: Path, size: int) -> None:
    """Write *size* bytes that no compression makes smaller, the same in every run."""
    rng = random.Random(SEED)
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            file.write(rng.randbytes(min(MIB, size - start)))


def copy_big(source: Path, target: Path, blocks: Path) -> int:
    """Copy in pieces of 1 MiB; the bytes of blocks that the store held just before the copy was closed."""
    with open(source, "rb", buffering=0) as old, open(target, "wb", buffering=0) as new:
        while data := old.read(MIB):
            done = 0
            while done < len(data):
                done += new.write(memoryview(data)[done:])
        return stored_bytes(blocks)


def stored_bytes(blocks: Path) -> int:
    """Bytes of all blocks in the store."""
    names = (Path(top, name) for top, _, found in os.walk(blocks) for name in found if BLOCK_NAME.fullmatch(name))
    return sum(path.stat().st_size for path in names)


def portable_data_hash(collection: Path) -> str:
    """The hash of the collection's content; reading it commits what is not committed yet."""
    return str(json.loads((collection / ".arvados#collection").read_text())["portable_data_hash"])


def compare_digests(source: Path, target: Path) -> int:
    """Compare names and sha256 of every file; the bytes read. CommandFailed names the first that differs."""
    total = 0
    ours, theirs = set(names_below(source)), set(names_below(target))
    if ours != theirs:
        raise CommandFailed(f"names differ: {sorted(ours ^ theirs)[:5]}")
    for name in sorted(ours):
        digests = []
        for top in (source, target):
            with open(top / name, "rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
                total += file.tell()
        if digests[0] != digests[1]:
            raise CommandFailed(f"{target / name}: sha256 {digests[1]} instead of {digests[0]}")
    return total


def names_below(top: Path) -> Iterator[Path]:
    """The files below *top*, relative to it."""
    for directory, _, names in os.walk(top):
        yield from (Path(directory, name).relative_to(top) for name in names)


def run(*words: str | Path) -> None:
    """Run an ordinary tool; CommandFailed with what it said if it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[:10])
        raise CommandFailed(f"{words[0]} {words[1]}: exit code {done.returncode}\n{said}")


if __name__ == "__main__":
    sys.exit(main())
