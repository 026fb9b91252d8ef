"""A process that changes a collection until it is killed: ``python -m tests.support.killable DIR UUID SEED``.

It prints the number of every change once the call has returned, a line each, so that whoever kills it knows what was
promised. The changes are those of `treemodel.changes`; some of them are followed by an fsync or a commit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.clock import SystemClock
from tests.support.sessions import Contents, Session
from tests.support.stores import local
from tests.support.treemodel import BIG, Change, apply_to_model, apply_to_tree, changes

TOP = Path(__file__).resolve().parents[2]
LOG = Path("mounts/m1")
COMMIT_EVERY = 13
FSYNC_EVERY = 7


def run(directory: Path, uuid: str, seed: int) -> None:
    """Change, and say so, until killed."""
    store, catalog = local(directory), SqliteCatalog(directory, clock=SystemClock())
    session = Session(directory / LOG, store=store, catalog=catalog)
    tree = session.open(catalog.get(uuid))
    for number, change in enumerate(changes(seed, BIG)):
        apply_to_tree(tree, change)
        os.write(1, b"%d\n" % number)
        if number % FSYNC_EVERY == FSYNC_EVERY - 1:
            tree.fsync(None)
        if number % COMMIT_EVERY == COMMIT_EVERY - 1:
            session.committed()


def killed(directory: Path, uuid: str, seed: int) -> tuple[Contents, Change]:
    """SIGKILL one at a moment that *seed* chooses: what it had promised, and the change that it may have begun."""
    fatal = random.Random(seed).randrange(1, 100)
    command = [sys.executable, "-m", "tests.support.killable", str(directory), uuid, str(seed)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TOP)
    assert child.stdout is not None
    try:
        last = -1
        for line in child.stdout:
            last = int(line)
            if last == fatal:
                child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert last >= fatal, "the child ended by itself"
    done = list(islice(changes(seed, BIG), last + 2))
    model: Contents = {}
    for change in done[:-1]:
        apply_to_model(model, change)
    return model, done[-1]


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
