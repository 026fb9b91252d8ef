"""Ordinary users, on an install without llfuse and without a compiler: by fusermount3, and in a user namespace.

Run by root, the user is ``nobody`` in a mount and a process namespace of the test's own, in which /dev/fuse may be
opened by everybody, as it is on desktops; whatever is left there ends with it. Run by somebody else, it is them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sources import TOP

pytestmark = pytest.mark.mounted
NOBODY = 65534
NEEDED = ("requests", "ciso8601", "PyYAML", "xxhash")

USE = """
import importlib.util, json, os, subprocess, sys

place = os.environ["HOME"]
mountpoint = place + "/mnt"
os.mkdir(mountpoint)

def arvfuse(*words):
    done = subprocess.run(
        [sys.executable, "-m", "arvfuse", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout

for mode in ("--read-write", "--read-only"):
    arvfuse("mount", "--driver", "kernel", mode, mountpoint)
    try:
        collection = mountpoint + "/home/one"
        if mode == "--read-write":
            os.mkdir(collection)
            with open(collection + "/file", "wb") as file:
                file.write(b"content" * 100_000)
        with open(collection + "/file", "rb") as file:
            content = file.read()
        status = json.loads(arvfuse("status", "--json", mountpoint))["mounts"][0]
    finally:
        arvfuse("unmount", mountpoint)
    assert os.listdir(mountpoint) == []
print(json.dumps({
    "content": content == b"content" * 100_000, "user": os.getuid(), "driver": status["engine"]["driver"],
    "llfuse": importlib.util.find_spec("llfuse") is not None, "status": status["state"],
}))
"""
OPEN_DEVICE = 'mount --bind "$0" /dev/fuse && exec "$@"'


def as_user() -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []


def interpreter() -> str:
    """A Python of our version that the user can run: root's own may lie where nobody else looks."""
    wanted = f"{sys.version_info[0]}.{sys.version_info[1]}"
    tried = [os.path.realpath(sys.executable), f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"]
    for candidate in tried:
        prefix = str(Path(candidate).parents[1])  # one without its own library would run by another's
        code = f"import sqlite3, sys; print('%d.%d' % sys.version_info[:2], sys.prefix == {prefix!r})"
        command = [*as_user(), candidate, "-c", code]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        if done.stdout.split() == [wanted, "True"]:
            return candidate
    pytest.fail(f"no Python {wanted} that an ordinary user can run: tried {', '.join(tried)}")


def dependencies() -> set[str]:
    """What the package needs, and what that needs."""
    found: set[str] = set()
    todo = list(NEEDED)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            for line in importlib.metadata.requires(name) or ():
                if "extra ==" not in line:
                    todo.append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    return found


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A virtual environment with the package and what it needs, and nothing else: no network is used."""
    place = Path(tempfile.mkdtemp(prefix="arvfuse-users-"))
    place.chmod(0o755)
    try:
        source = place / "source"
        shutil.copytree(TOP / "arvfuse", source / "arvfuse", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(TOP / name, source)
        environment = place / "venv"
        python = interpreter()
        subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True, timeout=120, cwd="/")
        (site,) = environment.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*pip, "--target", site, source], check=True, timeout=300, cwd="/")
        for name in dependencies():
            for file in importlib.metadata.files(name) or ():
                if ".." not in file.parts:
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file.locate(), site / file)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def use(installed: Path, name: str, *inner: str) -> dict[str, Any]:
    """What the user saw. *inner*: what the program is run by, as the user."""
    home = installed / name
    home.mkdir()
    command = [*as_user(), *inner, str(installed / "venv/bin/python"), "-c", USE]
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
        device = installed / "fuse"
        if not device.exists():
            subprocess.run(["mknod", "-m", "666", device, "c", "10", "229"], check=True, timeout=60)
        spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*spaces, "sh", "-c", OPEN_DEVICE, str(device), *command]
    done = subprocess.run(
        command, cwd="/", env={"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.timeout(300)
def test_an_ordinary_user_mounts_by_fusermount3(installed: Path) -> None:
    seen = use(installed, "helped")
    assert seen["user"] != 0
    assert (seen["content"], seen["llfuse"], seen["status"]) == (True, False, "serving")
    assert seen["driver"]["driver"] == "kernel"


@pytest.mark.timeout(300)
def test_root_of_a_user_namespace_mounts_by_itself(installed: Path) -> None:
    seen = use(installed, "alone", "unshare", "--user", "--map-root-user", "--mount")
    assert seen["user"] == 0
    assert (seen["content"], seen["llfuse"], seen["status"]) == (True, False, "serving")
    assert seen["driver"]["driver"] == "kernel"
