"""Ordinary programs work in a mount as in any directory: git, tar, cp, make, dd, SQLite, editors, syncing tools.

One mount for all of them. What they leave is compared with what they leave in a plain directory, and at the end with
what the store has, read without our code.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.naive import digests, saved_digests
from tests.support.programs import Program

pytestmark = pytest.mark.mounted
LIFE_S = 600.0  # what hangs is freed after that
COLLECTION = "tools"
RECORD = ".arvados#collection"


class Places:
    """A collection in a mount, and a plain directory."""

    def __init__(self, program: Program, mounted: Path, plain: Path) -> None:
        self.program = program
        self.mounted = mounted
        self.plain = plain

    def make(self, name: str) -> tuple[Path, Path]:
        """A directory of that name in both."""
        for top in (self.mounted, self.plain):
            (top / name).mkdir()
        return self.mounted / name, self.plain / name

    def check(self, name: str) -> None:
        """Both are the same, before and after a commit."""
        wanted = digests(self.plain / name)
        assert digests(self.mounted / name) == wanted
        (self.mounted / RECORD).read_bytes()
        assert digests(self.mounted / name) == wanted


@pytest.fixture(scope="module", params=["kernel", "llfuse"])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    top = tmp_path_factory.mktemp("tools")
    program = Program(top)
    (top / "plain").mkdir()
    with program.mounted(
        f"--driver={request.param}", "--read-write", "--commit-quiet=0.2", limit_s=LIFE_S
    ) as mountpoint:
        mounted = mountpoint / "home" / COLLECTION
        mounted.mkdir()
        yield Places(program, mounted, top / "plain")
        shown = digests(mounted)
    saved = saved_digests(program.store, COLLECTION)
    assert saved == shown
    assert {path: saved[path] for path in digests(top / "plain") if path in saved} == digests(top / "plain")


def run(directory: Path, *command: str | Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command], cwd=directory, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_git_works_in_a_mount(places: Places) -> None:
    top, _ = places.make("git")
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    run(top, "git", "init", "-q", "repo")
    repo = top / "repo"
    for number in range(3):
        for name in ("a", "b", f"dir{number}/c"):
            (repo / name).parent.mkdir(exist_ok=True)
            (repo / name).write_text(f"{name} {number}\n" * 500)
        run(repo, "git", "add", "-A")
        run(repo, "git", *who, "commit", "-q", "-m", f"commit {number}")
    run(repo, "git", "fsck", "--full", "--strict")
    run(repo, "git", "checkout", "-q", "-b", "side", "HEAD~1")
    (repo / "side").write_text("side")
    run(repo, "git", "add", "side")
    run(repo, "git", *who, "commit", "-q", "-m", "side")
    run(repo, "git", *who, "merge", "-q", "-m", "merged", "-")
    run(repo, "git", "gc", "-q")
    assert run(repo, "git", "status", "--short") == ""
    run(top, "git", "clone", "-q", "repo", "clone")
    (places.mounted / RECORD).read_bytes()
    for each in (repo, top / "clone"):
        run(each, "git", "fsck", "--full")
        assert run(each, "git", "log", "--oneline").count("\n") == 5
        assert (each / "dir2" / "c").read_text() == "dir2/c 2\n" * 500
    shutil.rmtree(top)


def test_a_tree_is_unpacked_copied_and_removed(places: Places) -> None:
    mounted, plain = places.make("tree")
    library = Path(sysconfig.get_path("stdlib"))
    parts = ["json", "email", "asyncio", "encodings", "os.py", "pydoc_data"]
    run(library, "tar", "-chf", plain.parent / "library.tar", "--exclude=__pycache__", *parts)
    for top in (mounted, plain):
        run(top, "tar", "-xf", plain.parent / "library.tar")
    (plain.parent / "library.tar").unlink()
    run(mounted, "diff", "-r", plain, mounted)
    run(mounted, "cp", "-a", "json", "copy")
    run(mounted, "diff", "-r", "json", "copy")
    assert run(mounted, "stat", "-c", "%a %y", "copy/decoder.py") == run(
        mounted, "stat", "-c", "%a %y", "json/decoder.py"
    )
    assert int(os.stat(mounted / "os.py").st_mtime) == int(os.stat(plain / "os.py").st_mtime)
    run(plain, "cp", "-a", "json", "copy")
    listing = run(mounted, "find", ".", "-type", "f", "-size", "+0")
    assert sorted(listing.split()) == sorted(run(plain, "find", ".", "-type", "f", "-size", "+0").split())
    for top in (mounted, plain):
        run(top, "rm", "-r", "email")
        run(top, "mv", "asyncio", "copy/moved")
    places.check("tree")


def test_make_builds_what_is_older_and_nothing_else(places: Places) -> None:
    mounted, _ = places.make("make")
    (mounted / "Makefile").write_text(
        "all: sum\n\t./sum\nsum: a.o b.o\n\tcc -o $@ $^\n%.o: %.c h.h\n\tcc -c -o $@ $<\n.PHONY: all\n"
    )
    (mounted / "h.h").write_text("int other(void);\n")
    (mounted / "a.c").write_text(
        '#include "h.h"\n#include <stdio.h>\nint main(void) { return printf("%d\\n", other()) < 0; }\n'
    )
    (mounted / "b.c").write_text('#include "h.h"\nint other(void) { return 40; }\n')
    assert run(mounted, "make", "-s", "-j2").endswith("40\n")
    assert "cc" not in run(mounted, "make")
    (mounted / "b.c").write_text('#include "h.h"\nint other(void) { return 42; }\n')
    said = run(mounted, "make")
    assert said.endswith("42\n")
    assert ("b.c" in said, "a.c" in said) == (True, False)
    shutil.rmtree(mounted)


@pytest.mark.parametrize("size", ["1", "511", "4097", "65536", "131073", "3M"])
def test_dd_writes_blocks_of_any_size_anywhere(places: Places, size: str) -> None:
    directories = places.make(f"dd {size}")
    noise = places.program.place / "noise"
    noise.write_bytes(random.Random(1).randbytes(5 << 20))
    few = "500" if size == "1" else "8"
    for top in directories:
        run(top, "dd", f"if={noise}", "of=file", f"bs={size}", f"count={few}", "status=none")
        run(top, "dd", f"if={noise}", "of=file", f"bs={size}", "seek=3", "count=2", "conv=notrunc", "status=none")
        run(
            top,
            "dd",
            f"if={noise}",
            "of=file",
            f"bs={size}",
            "count=1",
            "conv=notrunc,fsync",
            "oflag=append",
            "status=none",
        )
        run(top, "dd", f"if={noise}", "of=sparse", f"bs={size}", "seek=50", "count=1", "conv=sparse", "status=none")
        run(top, "truncate", "-s", "1000000", "sparse")
    places.check(f"dd {size}")


@pytest.mark.parametrize("journal", ["delete", "wal", "truncate"])
def test_sqlite_keeps_a_database(places: Places, journal: str) -> None:
    top, _ = places.make(f"sqlite {journal}")
    with closing(sqlite3.connect(top / "db", isolation_level=None)) as database:
        assert database.execute(f"PRAGMA journal_mode = {journal}").fetchone() == (journal,)
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
        random_ = random.Random(7)
        for number in range(25):
            database.execute("BEGIN")
            database.executemany(
                "INSERT INTO rows (data) VALUES (?)", [(random_.randbytes(random_.randrange(3000)),) for _ in range(10)]
            )
            if number % 5 == 0:
                database.execute("DELETE FROM rows WHERE id % 3 = 0")
            database.execute("ROLLBACK" if number % 7 == 0 else "COMMIT")
        with closing(sqlite3.connect(top / "db")) as second:
            seen = second.execute("SELECT count(*), sum(length(data)) FROM rows").fetchone()
        assert database.execute("SELECT count(*), sum(length(data)) FROM rows").fetchone() == seen
        database.execute("VACUUM")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (places.mounted / RECORD).read_bytes()
    with closing(sqlite3.connect(top / "db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*), sum(length(data)) FROM rows").fetchone() == seen
    shutil.rmtree(top)


def test_files_are_replaced_as_editors_and_syncing_tools_do(places: Places) -> None:
    """Backup by rename, write anew, fsync, remove the backup; or a hidden temporary file renamed over, times kept."""
    for top in places.make("replaced"):
        for number in range(10):
            text = f"text {number}\n" * (number + 1) * 1000
            if number:
                os.rename(top / "edited", top / "edited~")
            with open(top / "edited", "x") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            (top / "edited~").unlink(missing_ok=True)
            with open(top / ".synced.Xy12", "w") as file:
                file.write(text[:-1])
            os.chmod(top / ".synced.Xy12", 0o644)
            os.utime(top / ".synced.Xy12", (number, number))
            os.rename(top / ".synced.Xy12", top / "synced")
            with open(top / "synced") as file:
                assert (file.read(), os.fstat(file.fileno()).st_mtime) == (text[:-1], number)
            assert (top / "edited").read_text() == text
            assert sorted(os.listdir(top)) == ["edited", "synced"]
    places.check("replaced")


def test_programs_run_from_a_mount(places: Places) -> None:
    top, _ = places.make("programs")
    script = top / "script"
    script.write_text("#!/bin/sh\necho ran in $(basename $(pwd))\n")
    script.chmod(0o755)
    assert run(top, "./script") == "ran in programs\n"
    (top / "package").mkdir()
    (top / "package" / "__init__.py").write_text("value = 42\n")
    for _ in range(2):  # the second time from the byte code that the first one wrote
        assert run(top, sys.executable, "-c", "import package; print(package.value)") == "42\n"
    assert len(os.listdir(top / "package" / "__pycache__")) == 1
    shutil.copy(sys.executable, top / "interpreter")
    assert (top / "interpreter").read_bytes() == Path(sys.executable).read_bytes()
    shutil.rmtree(top)
