"""What only the catalog in files has; its promises are in tests/conformance/test_catalog.py."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.catalogs.sqlite import FILE_NAME, KEPT_EVENTS, MANIFESTS_NAME, SqliteCatalog
from arvfuse.errors import Damaged, ReadOnly, StoreUnavailable
from arvfuse.model.collections import EMPTY_PDH, PDH, Applied, MountId, Save, Version
from tests.support.clock import FakeClock
from tests.support.restricted import run_restricted

ROOT = Path(__file__).parents[3]

CONTENDER = """
import sys
from pathlib import Path
from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import CommitConflict
from arvfuse.model.collections import Save

directory, uuid, name, wins = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
catalog = SqliteCatalog(directory, clock=SystemClock(), writer=name)
print("ready", flush=True)
sys.stdin.readline()
while wins:
    expect = catalog.get(uuid).version
    text = f". d41d8cd98f00b204e9800998ecf8427e+0 0:0:{name}-{expect}\\n".encode()
    try:
        saved = catalog.save(Save(uuid=uuid, expect=expect, pdh=pdh_of_stripped(text), manifest=text))
    except CommitConflict:
        continue
    print(saved.version, flush=True)
    wins -= 1
catalog.close()
"""


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def catalog(tmp_path, clock):
    made = SqliteCatalog(tmp_path, clock=clock, writer="me")
    yield made
    made.close()


def text_of(name: str) -> bytes:
    return f". d41d8cd98f00b204e9800998ecf8427e+0 0:0:{name}\n".encode()


def contender(directory: Path, uuid: str, name: str, wins: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(directory), uuid, name, str(wins)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_store_has_these_files(catalog, tmp_path):
    record = catalog.create(name="a", manifest=text_of("a"))
    assert (tmp_path / FILE_NAME).is_file()
    path = catalog.manifest_path(record.pdh)
    assert path == tmp_path / MANIFESTS_NAME / record.pdh[:3] / record.pdh
    assert path.read_bytes() == text_of("a")
    assert record.uuid.startswith(f"{catalog.cluster}-")
    assert repr(catalog) == f"SqliteCatalog({str(tmp_path)!r}, writer='me', read_only=False)"
    assert KEPT_EVENTS == 100_000


def test_a_damaged_text_is_never_returned(catalog):
    record = catalog.create(name="a", manifest=text_of("a"))
    path = catalog.manifest_path(record.pdh)
    path.chmod(0o644)
    path.write_bytes(text_of("b"))
    with pytest.raises(Damaged):
        catalog.manifest(record.pdh)


def test_everything_is_there_after_reopening(catalog, tmp_path, clock):
    record = catalog.create(
        name="a", manifest=text_of("a"), applied=Applied(mount=MountId("m"), seq=1, ours_pdh=EMPTY_PDH)
    )
    saved = catalog.save(
        Save(uuid=record.uuid, expect=Version(1), pdh=EMPTY_PDH, manifest=b"", keep_previous=True, properties={"a": 1})
    )
    catalog.close()
    catalog.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        catalog.home()
    again = SqliteCatalog(tmp_path, clock=clock, create=False)
    assert again.versions(record.uuid) == [saved, record]
    assert again.manifest(record.pdh) == text_of("a")
    assert again.applied(MountId("m")).keys() == {record.uuid}
    again.close()


def test_a_store_is_made_only_on_request(tmp_path, clock):
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreUnavailable, match="no catalog there"):
            SqliteCatalog(tmp_path / "store", clock=clock, **options)
    assert not (tmp_path / "store").exists()


def test_read_only_refuses_every_change(catalog, tmp_path, clock):
    record = catalog.create(name="a", manifest=text_of("a"))
    reader = SqliteCatalog(tmp_path, clock=clock, read_only=True)
    for attempt in (
        lambda: reader.create(name="b"),
        lambda: reader.create_project(name="b"),
        lambda: reader.save(Save(uuid=record.uuid, expect=Version(1), pdh=EMPTY_PDH, manifest=b"")),
        lambda: reader.update(record.uuid, name="b"),
        lambda: reader.trash(record.uuid),
        lambda: reader.label_version(record.uuid, Version(1), "x"),
        lambda: reader.forget_applied(MountId("m")),
        lambda: reader.keep_manifest(EMPTY_PDH, b""),
    ):
        with pytest.raises(ReadOnly):
            attempt()
    assert reader.get(record.uuid) == record
    assert reader.manifest(record.pdh) == text_of("a")
    feed = reader.feed()
    saved = catalog.update(record.uuid, name="b")
    assert [change.version for change in feed.wait(0)] == [saved.version]
    feed.close()
    reader.close()


READ = """
import sys
from pathlib import Path
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import ArvfuseError
try:
    catalog = SqliteCatalog(Path(sys.argv[1]), clock=SystemClock(), read_only=sys.argv[2] == "ro")
    feed = catalog.feed()
    for record in catalog.collections():
        print(record.name, catalog.manifest(record.pdh).decode().strip(), len(feed.wait(0)))
    feed.close()
    catalog.close()
except ArvfuseError as exc:
    print(type(exc).__name__, exc)
"""


def read_restricted(directory: Path, mode: str) -> str:
    """What a process sees that can write neither in *directory* nor to the catalog."""
    before = sorted(os.listdir(directory))
    (directory / FILE_NAME).chmod(0o444)
    directory.chmod(0o555)
    try:
        done = run_restricted(READ, directory, mode)
    finally:
        directory.chmod(0o755)
        (directory / FILE_NAME).chmod(0o644)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(directory)) == before
    return done.stdout


def test_a_read_only_directory_is_read(catalog, tmp_path):
    catalog.create(name="a", manifest=text_of("f"))
    catalog.close()
    assert not (tmp_path / f"{FILE_NAME}-wal").exists()
    assert read_restricted(tmp_path, "ro") == "a . d41d8cd98f00b204e9800998ecf8427e+0 0:0:f 0\n"
    said = read_restricted(tmp_path, "rw")
    assert said.startswith("StoreUnavailable ")
    assert said.count("\n") == 1
    assert "read-only" in said or "permissions" in said


def test_changes_that_cannot_be_read_are_not_passed_over(catalog, tmp_path):
    catalog.create(name="a", manifest=text_of("f"))
    (tmp_path / f"{FILE_NAME}-shm").unlink()  # as in a copy of the file and its WAL
    said = read_restricted(tmp_path, "ro")
    assert said.startswith("StoreUnavailable ")
    assert "WAL" in said


def test_a_file_in_the_way_is_an_outage(tmp_path, clock):
    (tmp_path / "store").write_text("not a directory")
    with pytest.raises(StoreUnavailable) as caught:
        SqliteCatalog(tmp_path / "store", clock=clock)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_save_stores_the_text_before_the_record_and_nothing_if_that_fails(catalog, tmp_path):
    record = catalog.create(name="a")
    pdh = pdh_of_stripped(text_of("b"))
    (tmp_path / MANIFESTS_NAME / pdh[:3]).write_text("in the way")
    with pytest.raises(StoreUnavailable):
        catalog.save(Save(uuid=record.uuid, expect=Version(1), pdh=pdh, manifest=text_of("b")))
    assert catalog.get(record.uuid) == record


def test_a_big_text_is_not_copied_on_its_way(catalog, tmp_path):
    text = text_of("x") * 10_000
    record = catalog.create(name="a")
    view = memoryview(text)
    catalog.save(Save(uuid=record.uuid, expect=Version(1), pdh=pdh_of_stripped(text), manifest=view))
    assert catalog.manifest(catalog.get(record.uuid).pdh) == text
    assert (tmp_path / FILE_NAME).stat().st_size < len(text)


def test_a_locked_catalog_waits_for_its_turn(catalog, tmp_path):
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    made = []
    thread = threading.Thread(target=lambda: made.append(catalog.create(name="a")), name="creator")
    thread.start()
    assert catalog.collections() == []  # readers do not wait
    other.execute("COMMIT")
    other.close()
    thread.join()
    assert catalog.collections() == made


def test_of_several_processes_exactly_one_wins_each_version(catalog, tmp_path):
    record = catalog.create(name="a")
    processes = [contender(tmp_path, record.uuid, f"p{number}", 8) for number in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    feed = catalog.feed()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won = {}
    for number, process in enumerate(processes):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        won.update({int(version): f"p{number}" for version in out.split()})
    assert sorted(won) == list(range(2, 26))
    changes = feed.wait(0)
    feed.close()
    assert [(change.version, change.writer) for change in changes] == sorted(won.items())
    assert catalog.manifest(catalog.get(record.uuid).pdh) == text_of(f"{won[25]}-24")


def test_a_killed_process_leaves_only_whole_versions(catalog, tmp_path):
    record = catalog.create(name="a")
    process = contender(tmp_path, record.uuid, "p", 1_000_000)
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    said = int([process.stdout.readline() for _ in range(5)][-1])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    current = catalog.get(record.uuid)
    assert current.version >= said == 6
    assert catalog.manifest(PDH(current.pdh)) == text_of(f"p-{current.version - 1}")
    assert (
        catalog.save(Save(uuid=record.uuid, expect=current.version, pdh=EMPTY_PDH, manifest=b"")).version
        == current.version + 1
    )
