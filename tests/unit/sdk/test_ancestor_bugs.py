"""What is marked [bug] in the contract of the ancestor's SDK, and what we do instead (doc/compatibility.md)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import ArgumentError, InvalidPath, NotADirectory, StoreUnavailable
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.host import Host
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import make_catalog, make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "a925576942e94b2ef57a066101b48876+10"


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(b"0123456789")
    store.put(b"abcdefghij")
    return store


@pytest.fixture
def host(tmp_path: Path, store: MemoryStore) -> Iterator[Host]:
    clock = FakeClock()
    host = make_host(tmp_path, store, make_catalog(clock), clock)
    yield host
    host.close()


def test_removing_below_a_file_is_enotdir(host: Host) -> None:
    collection = Collection(f". {A} 0:10:file\n", host=host)
    with pytest.raises(NotADirectory):
        collection.remove("file/x")


def test_a_copy_without_a_name_is_an_argument_error(host: Host) -> None:
    collection = Collection(f". {A} 0:10:file\n./dir {A} 0:10:x\n", host=host)
    for target in ("", "dir/"):
        with pytest.raises(ArgumentError):
            collection.copy(collection["file"], target)


def test_a_directory_cannot_move_into_itself(host: Host) -> None:
    collection = Collection(f"./dir {A} 0:10:f\n", host=host)
    collection.mkdirs("dir/sub")
    for target in ("dir/x", "dir/sub/x"):
        with pytest.raises(InvalidPath):
            collection.rename("dir", target)
    assert collection.keys() == ["dir"]
    assert collection["dir"].keys() == ["f", "sub"]


@pytest.mark.parametrize(
    "writes",
    [
        [(0, b"mgjb"), (3, b"jj"), (3, b"hckj"), (3, b"zrb")],
        [(0, b"t"), (0, b"bmm"), (0, b"aqha")],
    ],
)
@pytest.mark.parametrize("commit_between", [False, True])
def test_overlapping_overwrites_are_not_lost(host: Host, writes: list[tuple[int, bytes]], commit_between: bool) -> None:
    collection = Collection(host=host)
    model = bytearray()
    handle = collection.open("f", "w+b")
    for offset, data in writes:
        handle.seek(offset)
        handle.write(data)
        model[offset : offset + len(data)] = data
        if commit_between:
            collection.flush()
        assert handle.readfrom(0, 100) == model
    text = collection.manifest_text()
    assert Collection(text, host=host).open("f", "rb").read() == model


def test_the_position_moves_by_bytes_when_text_is_written(host: Host) -> None:
    collection = Collection(host=host)
    with collection.open("f", "w+b") as handle:
        assert (handle.write("äöü"), handle.tell()) == (6, 6)
        handle.write("!")
    assert collection.open("f").read() == "äöü!"


@pytest.mark.parametrize("first", [b"first 64 MiB", b"small"])
def test_a_block_that_failed_is_tried_again_by_the_next_save(tmp_path: Path, first: bytes) -> None:
    """The ancestor never retries a block that is not the file's current one, or the one of zeros."""
    store, catalog = Faulty(MemoryStore()), make_catalog()
    host = make_host(tmp_path, store, catalog)
    collection = Collection(host=host)
    collection.save_new("mine")
    size = 64 << 20 if first == b"first 64 MiB" else 5
    down(store)
    with collection.open("f", "wb") as handle:
        handle.write(b"x" * size)
        handle.seek(size + 3)  # a hole: a block of zeros is stored, too
        handle.write(b"tail")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                collection.save()
        with pytest.raises(StoreUnavailable):
            handle.flush()
        handle.flush()  # once
        up(store)
        collection.save()
        handle.flush()
    fresh = Collection(collection.manifest_locator(), host=host)
    assert fresh.open("f", "rb").read() == b"x" * size + bytes(3) + b"tail"
    assert host.workspace.shared.spool.level <= 2 << 20
    assert host.workspace.shared.blocks.all() == []
    host.close()


def down(store: Faulty) -> None:
    store.rescript("put: FAIL*; adopt: FAIL*")


def up(store: Faulty) -> None:
    store.rescript("")


def test_storage_classes_alone_make_no_save(host: Host) -> None:
    catalog = host.catalog
    assert catalog is not None
    collection = Collection(host=host, storage_classes_desired=["fast"])
    collection.save_new("mine")
    uuid = collection.manifest_locator()
    assert uuid is not None
    collection.save()
    assert catalog.get(uuid).version == 1
    assert catalog.get(uuid).storage_classes == ("fast",)


def test_the_same_bytes_cut_otherwise_are_no_conflict(host: Host) -> None:
    local = Collection(f". {A} 0:5:f 5:5:f\n", host=host)
    base = Collection(f". {A} 0:10:f\n", host=host)
    theirs = Collection(f". {B} 0:10:f\n", host=host)
    assert local == base
    assert local.diff(base) == []
    local.apply(base.diff(theirs))
    assert local.keys() == ["f"]
    assert local.open("f", "rb").read() == b"abcdefghij"


def test_a_second_conflict_within_a_second_takes_the_next(host: Host) -> None:
    mine = Collection(f". {A} 0:3:f\n", host=host)
    base = Collection(f". {A} 0:10:f\n", host=host)
    for content in ("0:4:f", "0:5:f", "0:6:f"):
        mine.apply(base.diff(Collection(f". {A} {content}\n", host=host)))
    stamps = [f"f~20200101-00000{second}~conflict~" for second in range(3)]
    assert mine.keys() == ["f", *stamps]
    assert [mine[name].size() for name in mine] == [3, 4, 5, 6]


def test_two_savers_lose_nothing(host: Host) -> None:
    """The ancestor has no lock between its look and its save; ours compares and swaps, and merges."""
    one = Collection(host=host)
    one.save_new("shared")
    other = Collection(one.manifest_locator(), host=host)
    for number, collection in enumerate(itertools.islice(itertools.cycle([one, other]), 6)):
        with collection.open(f"f{number}", "w") as handle:
            handle.write(str(number))
        collection.save()
    assert host.catalog is not None
    assert Collection(one.manifest_locator(), host=host).keys() == [f"f{number}" for number in range(6)]


def test_update_always_looks_at_the_record(host: Host) -> None:
    """The ancestor trusts what it knows for an hour, also the properties of a record whose content is the same."""
    one = Collection(host=host)
    one.save_new("shared", properties={"a": 1})
    other = Collection(one.manifest_locator(), host=host)
    one.save(properties={"a": 2})
    other.update()
    assert other.get_properties() == {"a": 2}


def test_names_that_the_ancestor_misreads(host: Host) -> None:
    """Octal escapes are bytes (the ancestor: code points), U+00A0 is a letter like others (the ancestor: a space)."""
    collection = Collection(f". {A} 0:10:caf\\303\\251 0:10:a\u00a0b\n", host=host)
    assert collection.keys() == ["a\u00a0b", "café"]


def test_a_hint_without_a_value_is_a_hint(host: Host) -> None:
    assert Collection(f". {A}+Z 0:10:f\n", host=host)["f"].segments()[0].locator == f"{A}+Z"
