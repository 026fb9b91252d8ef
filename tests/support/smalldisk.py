"""Running Python on a disk of its own that is really full when it is full: a tmpfs in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_MOUNTED = 'mount -t tmpfs -o "size=$1" none "$2" && exec "$3" -c "$4" "$2"'


def run_on_small_disk(script: str, mountpoint: Path, *, size: int) -> Any:
    """What *script* prints, as JSON. It finds the empty disk of *size* bytes in ``sys.argv[1]``."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            _MOUNTED,
            "sh",
            str(size),
            mountpoint,
            sys.executable,
            script,
        ],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
