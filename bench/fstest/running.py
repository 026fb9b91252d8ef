"""Runs a scenario of the stress program in many processes and verifies what they left behind.

Threading: none. The parent forks workers; each reports once through a pipe of its own and counts its steps in
shared memory, so one that dies or hangs is seen and named, and the others are ended. Raises Wrong with one line.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from bench.fstest.pages import PAGE_BYTES, BadPage, Page, parse_page
from bench.fstest.scenarios import SCENARIOS, commit, wait_until
from bench.fstest.worker import Result, Run, Worker, Wrong

CONFLICT: Final = re.compile(r"^(?P<name>.*)~\d{8}-\d{6}~conflict~$", re.DOTALL)
"""A file that kept the losing side of two changes; *name* is the one both wanted."""
STALL_S: Final = 300.0
"""A worker that makes no step for so long hangs."""

Job = Callable[[Worker], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario did: counts over all processes, and the seconds its workers took."""

    files: int
    wrote: int
    read: int
    seconds: float


@dataclass(slots=True)
class _Child:
    """A worker process as its parent sees it."""

    process: BaseProcess
    answer: Connection
    steps: int = 0
    moved_at: float = field(default_factory=time.monotonic)


def prepare(run: Run, scenario: str) -> None:
    """Make the directories of *scenario* in the first view and wait until every view shows them."""
    base = run.bases[0]
    for directory in (base / run.name, base / f"{run.name}-other", base / run.name / scenario):
        directory.mkdir(exist_ok=True)
    if scenario == "same-file":
        for name in ("data", "log"):
            (base / run.name / scenario / name).touch()
    commit(base / run.name)
    for view in run.bases[1:]:
        last = view / run.name / scenario / ("log" if scenario == "same-file" else "")
        wait_until(last.exists, f"{last}: made in {base}, and does not appear: several DIRs must show one place")


def run_scenario(run: Run, scenario: str) -> Outcome:
    """Run all workers to their end, then read everything again through every view."""
    started = time.monotonic()
    results = _run_jobs(run, scenario, [SCENARIOS[scenario]] * run.processes)
    seconds = time.monotonic() - started

    def verify(worker: Worker) -> None:
        if not run.alone:
            _settle(run, worker)
        for base in run.bases:
            _verify(run, worker, base, results)

    _run_jobs(run, scenario, [verify])
    return Outcome(
        files=sum(result.files for result in results),
        wrote=sum(result.wrote for result in results),
        read=sum(result.read for result in results),
        seconds=seconds,
    )


def remove(run: Run) -> None:
    """Remove all that the run made."""
    for name in _made(run):
        if (directory := run.bases[0] / name).exists():
            shutil.rmtree(directory)


def _made(run: Run) -> list[str]:
    """The names below the base that a run may make."""
    tests = [run.test_name(number, cycle) for cycle in range(run.cycles) for number in range(run.processes)]
    return [run.name, f"{run.name}-other", *tests]


def _run_jobs(run: Run, scenario: str, jobs: Sequence[Job]) -> list[Result]:
    """One process per job; their results in order."""
    context = multiprocessing.get_context("fork")
    steps, done = (context.RawArray("Q", len(jobs)) for _ in range(2))
    children: list[_Child] = []
    try:
        for number, job in enumerate(jobs):
            receiver, sender = context.Pipe(duplex=False)
            worker = Worker(run, scenario, number, steps, done)
            process = context.Process(target=_work, args=(worker, job, sender), name=f"fstest {scenario} {number}")
            process.start()
            sender.close()
            children.append(_Child(process, receiver))
        return _collect(children, steps)
    finally:
        for child in children:
            child.process.kill()
            child.process.join(5.0)  # one stuck in the kernel cannot be joined, and must not hold us
            child.answer.close()


def _work(worker: Worker, job: Job, answer: Connection) -> None:
    """The body of a worker process."""
    try:
        job(worker)
    except Wrong as wrong:
        answer.send(f"process {worker.number}: {wrong}")
    except Exception as error:  # top of a process: whatever the directory made us do is the finding
        place = traceback.extract_tb(error.__traceback__)[-1]
        answer.send(f"process {worker.number}: {type(error).__name__}: {error} (at {place.name}:{place.lineno})")
    else:
        answer.send(worker.result)


def _collect(children: Sequence[_Child], steps: Sequence[int]) -> list[Result]:
    """The workers' results; Wrong as soon as one failed, died or made no step for STALL_S."""
    results: dict[int, Result] = {}
    while len(results) < len(children):
        waiting = {child.answer: n for n, child in enumerate(children) if n not in results}
        for ready in multiprocessing.connection.wait(list(waiting), timeout=1.0):
            assert isinstance(ready, Connection)
            number = waiting[ready]
            try:
                answer = ready.recv()
            except EOFError:
                children[number].process.join(5.0)
                raise Wrong(f"process {number}: ended with {children[number].process.exitcode}") from None
            if not isinstance(answer, Result):
                raise Wrong(str(answer))
            results[number] = answer
        now = time.monotonic()
        for number in waiting.values():
            child = children[number]
            if child.steps != steps[number]:
                child.steps, child.moved_at = steps[number], now
            elif now - child.moved_at > STALL_S and number not in results:
                raise Wrong(f"process {number}: no step for {STALL_S:.0f} s, it hangs after step {child.steps}")
    return [results[number] for number in range(len(children))]


def _settle(run: Run, worker: Worker) -> None:
    """Commit through every view until all of them list the same."""
    names = set(_made(run))

    def listing(base: Path) -> set[tuple[str, int]]:
        tops = [name for name in os.listdir(base) if name in names]
        found = (Path(top, name) for n in tops for top, _, files in os.walk(base / n) for name in files)
        return {(str(path.relative_to(base)), path.stat().st_size) for path in found}

    def commit_all() -> None:
        worker.step()
        for base in run.bases:
            commit(base / run.name)

    def same() -> bool:
        try:
            first, *others = (listing(base) for base in run.bases)
        except FileNotFoundError:  # a view changed while it was listed
            return False
        return all(first == other for other in others)

    commit_all()
    wait_until(same, f"the views {', '.join(map(str, run.dirs))} do not come to show the same", step=commit_all)


def _verify(run: Run, worker: Worker, base: Path, results: Iterable[Result]) -> None:
    """Everything the workers say must be there, is, in the view *base*."""
    claims: dict[str, list[Page]] = {}
    for number, result in enumerate(results):
        for name, model in result.kept.items():
            worker.check(base / name, model)
        for name, page in result.claims:
            claims.setdefault(name, []).append(page)
        for name, count in result.appended.items():
            _verify_appends(worker, base / name, number, count)
    for name, pages in claims.items():
        path = base / name
        survivors = [path] + [p for p in path.parent.iterdir() if _kept_for(p.name) == path.name]
        if run.alone and len(survivors) > 1:
            raise Wrong(f"{survivors[1]}: a conflict, and there was one view only")
        found = {page for survivor in survivors for page in _pages(worker, survivor)}
        if lost := [page for page in pages if page not in found]:
            raise Wrong(f"{path}: lost {lost[0]} and {len(lost) - 1} other pages; survivors: {len(survivors)}")


def _kept_for(name: str) -> str | None:
    """The name that a conflict file (or one of a conflict file) was first written to."""
    match = CONFLICT.match(name)
    return (_kept_for(match["name"]) or match["name"]) if match else None


def _pages(worker: Worker, path: Path) -> list[Page]:
    """All pages of a common file at rest: every one is whole and in its place, or was never written."""
    data, pages = path.read_bytes(), []
    worker.result.read += len(data)
    for index in range(-(-len(data) // PAGE_BYTES)):
        worker.step()
        piece = data[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]
        if piece.strip(b"\0"):
            try:
                pages.append(parse_page(piece))
            except BadPage as problem:
                raise Wrong(f"{path}: page {index}: {problem}") from None
    return pages


def _verify_appends(worker: Worker, path: Path, writer: int, count: int) -> None:
    """Every append of *writer* stands in the log once, in its order."""
    got = [page.number for page in _pages(worker, path) if page.writer == writer]
    if got != list(range(count)):
        raise Wrong(f"{path}: {count} appends of process {writer} are now {len(got)}, or out of order")
