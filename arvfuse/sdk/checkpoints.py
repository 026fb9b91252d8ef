"""Committed texts of trees that no record holds: outputs, temporary trees, collections not saved yet.

A durable one is a file ``checkpoint-<tree>-<seq>`` beside the log (doc/formats.md): the tree's content as of record
*seq*, so that the log up to there is covered and a recovery starts from it. There is at most one per tree; the new one
is safe before the old one goes. Threading: one thread, that of the committer. OSError if a file cannot be written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.model.normalizing import pdh as pdh_of
from arvfuse.sdk.log import sync_directory

_PREFIX: Final = "checkpoint-"
_SAVED: Final = "saved-"


class Covered(NamedTuple):
    """Records of a tree up to *seq* are in manifest *pdh*."""

    seq: int
    pdh: str


class Checkpoints:
    """The checkpoints in *directory*; without *durable* they live in memory only."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory: Final = directory
        self._durable: Final = durable
        self._newest: dict[int, Covered] = {}
        self._memory: dict[int, bytes] = {}
        for tree, seq in _numbers(directory):
            if seq >= self._newest.get(tree, Covered(-1, "")).seq:
                self._newest[tree] = Covered(seq, pdh_of(self._path(tree, seq).read_bytes()))
        self._saved: dict[int, Covered] = {}
        for path in directory.glob(f"{_SAVED}*"):
            seq_text, pdh = path.read_text().split()
            self._saved[int(path.name[len(_SAVED) :])] = Covered(int(seq_text), pdh)

    def covered(self, tree: int) -> Covered | None:
        """What the newest checkpoint of *tree* covers, or the newest save that was noted here."""
        found = [each[tree] for each in (self._newest, self._saved) if tree in each]
        return max(found, default=None)

    def text(self, pdh: str) -> bytes | None:
        """The text of a checkpoint with that hash, if there is one."""
        for tree, covered in self._newest.items():
            if covered.pdh == pdh:
                return self._memory[tree] if tree in self._memory else self._path(tree, covered.seq).read_bytes()
        return None

    def keep(self, tree: int, seq: int, pdh: str, text: bytes) -> None:
        """*text*, whose hash is *pdh*, is the tree as of record *seq*. Safe from a power cut when this returns."""
        old = self._newest.get(tree)
        if self._durable:
            self._write(self._path(tree, seq), text)
        else:
            self._memory[tree] = text
        self._newest[tree] = Covered(seq, pdh)
        if self._durable and old is not None and old.seq != seq:
            self._path(tree, old.seq).unlink(missing_ok=True)

    def note_saved(self, tree: int, seq: int, pdh: str) -> None:
        """A record has the tree as of *seq*, the catalog its text *pdh*. Safe from a power cut when this returns.

        For trees of which several may have one record: the catalog cannot say whose save the newest was."""
        self._saved[tree] = Covered(seq, pdh)
        if self._durable:
            self._write(self._directory / f"{_SAVED}{tree}", f"{seq} {pdh}\n".encode())

    def _path(self, tree: int, seq: int) -> Path:
        return self._directory / f"{_PREFIX}{tree}-{seq}"

    def _write(self, path: Path, text: bytes) -> None:
        temporary = path.with_name(f".{path.name}.new")
        with open(temporary, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(self._directory)


def _numbers(directory: Path) -> list[tuple[int, int]]:
    """(tree, seq) of every checkpoint file."""
    found = []
    for path in directory.glob(f"{_PREFIX}*-*"):
        tree, _, seq = path.name[len(_PREFIX) :].partition("-")
        if tree.isdigit() and seq.isdigit():
            found.append((int(tree), int(seq)))
    return sorted(found)


def ask(directory: Path, tree: int) -> None:
    """Note that what is in *tree* is to be kept if its session dies before it is saved; survives a power cut."""
    fd = os.open(_asked(directory, tree), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fsync(fd)
    os.close(fd)


def is_asked(directory: Path, tree: int) -> bool:
    """Whether ask() was called and is not taken back."""
    return _asked(directory, tree).exists()


def take_back(directory: Path, tree: int) -> None:
    """Everything in *tree* is saved: nothing has to be kept."""
    _asked(directory, tree).unlink(missing_ok=True)


def note_kept(directory: Path, tree: int) -> None:
    """A recovery kept the content of *tree*: one that has to come again for other trees leaves this one alone."""
    (directory / f"kept-{tree}").touch()


def is_kept(directory: Path, tree: int) -> bool:
    """Whether note_kept() was called."""
    return (directory / f"kept-{tree}").exists()


def _asked(directory: Path, tree: int) -> Path:
    return directory / f"keep-{tree}"
