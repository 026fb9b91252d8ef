"""What is still needed of mostly covered log files: which file, which records, and where their data are then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import Damaged
from arvfuse.model import records
from arvfuse.model.records import CODES, Placed, Record
from arvfuse.sdk import carrying
from arvfuse.sdk.carrying import SLACK_BYTES, Copy, Needed, Places, choose, copies
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.log import LogReader, LogWriter, log_numbers, log_path
from arvfuse.sdk.workspace import MIN_LOG_FILE_BYTES
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import MOUNT, Session, contents, put_file, recovered, saved_contents
from tests.support.stores import noise

INLINE = CODES[records.WriteInline]


def test_the_file_of_which_least_is_needed_is_chosen() -> None:
    assert choose({}, 0) is None
    assert choose({1: (64, 1), 2: (64, 40), 3: (64, 2), 4: (10, 0)}, 100) == 1
    assert choose({1: (64, 40), 2: (64, 20), 3: (64, 2), 4: (10, 0)}, 20) == 3
    assert choose({1: (64, 1), 2: (64, 40), 3: (64, 2), 4: (10, 0)}, 120) is None  # within twice that, and the slack
    assert choose({1: (64, 33), 2: (64, 0)}, 0) is None  # the first is needed, the last is being written
    assert SLACK_BYTES == 128 << 20


def placed(number: int, data_bytes: int, end: int) -> Placed:
    body = records.WriteInline(5, 0, data_bytes, records.address_of(1, number))
    record = Record(number, 0, 1, 0, body, body.address + data_bytes)
    return Placed(record, end - data_bytes - 52, end)


def test_places_say_where_data_are_now() -> None:
    places = Places()
    first = records.address_of(1, 100)
    assert places.find(first) is None
    places.note(
        records.Carried((placed(100, 10, records.address_of(7, 500)), placed(300, 20, records.address_of(7, 900))))
    )
    assert len(places) == 2
    assert [places.find(address) for address in (first - 1, first, first + 9, first + 10)] == [
        None, records.address_of(7, 490), records.address_of(7, 499), None,
    ]  # fmt: skip
    places.note(records.Carried((placed(100, 10, records.address_of(9, 60)),)))  # carried once more
    assert places.find(first + 1) == records.address_of(9, 51)
    places.keep({9})
    assert (len(places), places.find(records.address_of(1, 300))) == (1, None)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogWriter]:
    log = LogWriter(tmp_path, boot_id=bytes(16), clock=FakeClock(), file_bytes=4000)
    yield log
    log.close()


def base(tree: int) -> bytes:
    return records.encode(records.Base("record", f"uuid{tree}", 1, "", 0, "", None))


def add(log: LogWriter, tree: int, body: records.Body) -> int:
    seq, _ = log.append(tree, CODES[type(body)], records.encode(body))
    return seq


def test_only_what_is_needed_is_copied_with_the_bases_that_it_names(
    log: LogWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "_WINDOW_BYTES", 100)
    for tree in (1, 2, 3, 4):
        log.append(tree, CODES[records.Base], base(tree))
    add(log, 1, records.Mkdir(10, 1, b"covered"))
    kept = add(log, 2, records.Mkdir(20, 2, b"kept"))
    shared, address = log.append(1, INLINE, records.encode_inline(11, 0), b"shared by a copy" * 20)
    log.append(1, INLINE, records.encode_inline(11, 50), b"covered" * 50)
    moved = add(log, 3, records.Move(2, 2, b"x", 21, 3, b"x"))
    add(log, 3, records.Move(1, 2, b"y", 22, 3, b"y"))
    log.flush(log.seq)
    needed = Needed(lambda tree, seq: tree == 2, lambda first, length: first <= address + 5 < first + length)
    found = copies(log_path(tmp_path, 1), 1, needed)
    assert [(copy.seq, copy.tree, copy.inline_bytes) for copy in found] == [
        (1, 1, 0), (2, 2, 0), (3, 3, 0), (kept, 2, 0), (shared, 1, 320), (moved, 3, 0),
    ]  # fmt: skip
    # They are found where they are now, and can be carried again from there.
    while log.file_number == 1:
        add(log, 1, records.Mkdir(12, 1, b"covered" * 20))
    target = log.carry(found)
    assert log.file_of(address) == target
    assert log.carry([]) == target
    while log.file_number == target:
        add(log, 1, records.Mkdir(12, 1, b"covered" * 20))
    log.flush(log.seq)
    assert log.drop(1) > 0
    assert bytes(log.read(address + 3, 6)) == b"red by"
    again = copies(log_path(tmp_path, target), target, needed)
    assert again == found
    final = log.carry(again)
    assert (log.drop(target) > 0, final > target, log.file_of(address)) == (True, True, final)
    assert bytes(log.read(address + 3, 6)) == b"red by"
    reader = LogReader(tmp_path)
    inner = [
        each.record
        for record in reader.read()
        if isinstance(record.body, records.Carried)
        for each in record.body.records
    ]
    reader.close()
    assert [record.seq for record in inner] == [copy.seq for copy in found]


def test_every_base_of_a_tree_is_carried_with_what_is_needed_of_it(log: LogWriter, tmp_path: Path) -> None:
    """The later one may say what a record did that is not needed for itself."""
    log.append(1, CODES[records.Base], base(1))
    add(log, 1, records.Merged(2, "p", ()))
    later, _ = log.append(1, CODES[records.Base], base(1))
    kept = add(log, 1, records.Mkdir(10, 1, b"kept"))
    log.flush(log.seq)
    found = copies(log_path(tmp_path, 1), 1, Needed(lambda tree, seq: seq == kept, lambda *_: False))
    assert [copy.seq for copy in found] == [1, later, kept]


def test_a_file_that_ends_too_early_is_damage(log: LogWriter, tmp_path: Path) -> None:
    add(log, 1, records.Mkdir(10, 1, b"name"))
    log.flush(log.seq)
    log_path(tmp_path, 1).write_bytes(log_path(tmp_path, 1).read_bytes()[:-1])
    with pytest.raises(Damaged):
        copies(log_path(tmp_path, 1), 1, Needed(lambda *_: True, lambda *_: False))
    assert Copy(1, b"", 2, 3, 4).inline_bytes == 4


class Waiting:
    """One collection that is not committed, beside one that is, again and again."""

    def __init__(self, directory: Path) -> None:
        self.session = Session(
            directory, store=MemoryStore(), catalog=make_catalog(), pool=InlinePool(), spool_bytes=16 << 20
        )
        self.records = [self.session.catalog.create(name=name) for name in ("waiting", "busy")]
        self.waiting, self.busy = map(self.session.open, self.records)
        self.want: dict[tuple[bytes, ...], bytes] = {}

    def log_bytes(self) -> int:
        return sum(self.session.workspace.log.sizes().values())

    def rounds(self, count: int) -> None:
        """Each leaves a log file with little that is needed."""
        for number in range(count):
            name = b"w%d" % len(self.want)
            put_file(self.waiting, name, name * 100)
            self.want[name,] = name * 100
            copied = put_file(self.busy, b"shared%d" % number, name * 50)
            with self.session.workspace.shared.sharing:
                parts = self.busy.shareable(copied)
                self.waiting.set_content(self.waiting.create(self.waiting.root, b"copy of " + name), parts)
            self.want[b"copy of " + name,] = name * 50
            for part in range(MIN_LOG_FILE_BYTES // 1_000_000 + 1):
                put_file(self.busy, b"b%d" % part, noise(1_000_000))
            self.session.committed(self.busy)

    def saved(self) -> object:
        return saved_contents(self.session.catalog, self.session.store, self.records[0].uuid)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    monkeypatch.setattr(carrying, "SLACK_BYTES", 8 << 20)
    world = Waiting(tmp_path)
    yield world
    world.session.close()


def test_a_log_is_no_longer_than_it_may_be(world: Waiting) -> None:
    """At most twice what is needed of it, the slack, and the file that is being written."""
    world.rounds(12)
    assert world.log_bytes() < (8 << 20) + 2 * MIN_LOG_FILE_BYTES
    assert log_numbers(world.session.directory)[0] > 3
    assert contents(world.waiting) == world.want
    world.session.committed()
    assert world.saved() == world.want
    assert contents(world.waiting) == world.want
    assert not world.waiting.unsettled
    assert log_numbers(world.session.directory) == [world.session.workspace.log.file_number]
    assert world.session.workspace.shared.spool.level <= MIN_LOG_FILE_BYTES  # of the file that is being written


def test_what_was_carried_is_recovered(world: Waiting) -> None:
    world.rounds(12)
    world.session.close()
    recovered(world.session.directory, store=world.session.store, catalog=world.session.catalog)
    assert world.saved() == world.want


def test_a_committer_that_starts_later_finds_it_where_it_belongs(world: Waiting) -> None:
    world.rounds(9)
    for _ in range(2):
        world.session.committer.close()
        world.session.committer = Committer(
            directory=world.session.directory, mount=MOUNT, store=world.session.store, catalog=world.session.catalog,
            clock=world.session.clock, pool=InlinePool(), on_stored=world.session.workspace.stored,
        )  # fmt: skip
        world.session.committer.feed(world.session.workspace.log.flushed_seq)
        world.rounds(3)
    world.session.committed()
    assert world.saved() == world.want


def test_a_death_before_the_old_file_is_deleted_counts_nothing_twice(world: Waiting, tmp_path: Path) -> None:
    """Then copies and originals are there."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for _ in range(12):
        for number in log_numbers(tmp_path):
            if not (hidden / f"{number:08d}").exists():
                (hidden / f"{number:08d}").hardlink_to(log_path(tmp_path, number))
        world.rounds(1)
    world.session.close()
    gone = [path for path in sorted(hidden.iterdir()) if not (tmp_path / "log" / path.name).exists()]
    assert len(gone) > 3
    for path in gone:
        path.rename(tmp_path / "log" / path.name)
    recovered(tmp_path, store=world.session.store, catalog=world.session.catalog)
    assert world.saved() == world.want
