"""Running Python without the power of root to ignore permissions, so that a read-only directory is one for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_PR_CAPBSET_DROP = 24
# The bounding set takes effect at the next exec; root keeps its uid, so it still owns its files.
_WITHOUT = f"""
import ctypes, os, sys
for capability in ({_CAP_DAC_OVERRIDE}, {_CAP_DAC_READ_SEARCH}):
    if os.getuid() == 0 and ctypes.CDLL(None).prctl({_PR_CAPBSET_DROP}, capability, 0, 0, 0):
        sys.exit(f"cannot give up capability {{capability}}, so permissions mean nothing here")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run_restricted(script: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run *script* with *args* in a process for which file permissions count, whoever we are."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, "-c", script, *map(str, args)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
