"""Look-ups: the answers that directories and the engine rely on, also when they are asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.backend.lookups import Lookups
from arvfuse.backend.messages import decode, decode_record, encode
from arvfuse.errors import ArgumentError, NameTaken, NoSuchRecord
from arvfuse.model.collections import Save
from arvfuse.model.normalizing import normalize, pdh
from tests.support.opened import memory_parts

FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n"
BAR = b". 37b51d194a7513e45b56f6524f2d51f2+3 0:3:bar\n"


@pytest.fixture
def catalog(tmp_path):
    return memory_parts(tmp_path).catalog


@pytest.fixture
def ask(catalog, tmp_path):
    lookups = Lookups(catalog, tmp_path)
    return lambda op, again=False, **args: decode(encode(lookups.answer(op, args, again=again)))


def test_home_and_what_is_in_it(ask, catalog):
    home = ask("home")["entry"]
    assert home["type"] == "project"
    made = ask("mkdir", owner=home["uuid"], name="one")["entry"]
    project = catalog.create_project(name="sub")
    entries = ask("contents", owner=home["uuid"])["entries"]
    assert [entry["name"] for entry in entries] == ["sub", "one"]
    assert ask("find", owner=home["uuid"], name="one")["entry"] == made
    assert ask("find", owner=home["uuid"], name="two")["entry"] is None
    assert ask("by_id", id=project.uuid)["entry"]["type"] == "project"


def test_a_collection_is_opened_with_its_text(ask, catalog):
    record = catalog.create(name="one", manifest=FOO)
    for identity in (record.uuid, record.pdh):
        reply = ask("open", id=identity)
        assert decode_record(reply["entry"]) == record
        assert Path(reply["manifest"]).read_bytes() == FOO
    empty = catalog.create(name="empty")
    assert Path(ask("open", id=empty.uuid)["manifest"]).read_bytes() == b""
    assert ask("resolve", id="home/one")["id"] == record.uuid


def test_a_kept_version_is_opened(ask, catalog):
    record = catalog.create(name="one", manifest=FOO)
    catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=pdh(BAR), manifest=BAR, keep_previous=True))
    assert ask("open", id=record.uuid, version=1)["entry"]["pdh"] == record.pdh


def test_content_without_a_record_is_told_as_that_of_one(ask, tmp_path):
    (tmp_path / "content").write_bytes(FOO)
    reply = ask("content", file=str(tmp_path / "content"))
    assert reply == {"pdh": pdh(FOO), "manifest": str(tmp_path / "content"), "lines": None}
    bad = BAR + FOO * 10_000  # long enough to be indexed, and not normal
    (tmp_path / "content").write_bytes(bad)
    reply = ask("content", file=str(tmp_path / "content"))
    assert reply["pdh"] == pdh(bad)
    assert Path(reply["manifest"]).read_bytes() == normalize(bad)
    assert Path(reply["lines"]).is_file()


def test_what_is_no_collection_is_no_such_record(ask, catalog):
    for op in ("open", "record"):
        with pytest.raises(NoSuchRecord, match="project"):
            ask(op, **{"id" if op == "open" else "uuid": catalog.home().uuid})
    with pytest.raises(NoSuchRecord):
        ask("by_id", id="zzzzz-4zz18-000000000000000")
    with pytest.raises(NoSuchRecord, match="content"):
        ask("by_id", id="acbd18db4cc2f85cedef654fccc4a4d8+3")
    catalog.create(name="one")
    with pytest.raises(ArgumentError, match="alone"):
        ask("resolve", id="home/one/path")
    with pytest.raises(ArgumentError, match="no request"):
        ask("dance")


def test_changes_that_were_made_before_the_backend_died_are_successes_when_asked_again(ask, catalog):
    home = catalog.home().uuid
    made = ask("mkdir", owner=home, name="one")["entry"]
    assert ask("mkdir", owner=home, name="one", again=True)["entry"] == made
    with pytest.raises(NameTaken):
        ask("mkdir", owner=home, name="one")
    renamed = ask("rename", uuid=made["uuid"], owner=home, name="two")["entry"]
    assert ask("rename", uuid=made["uuid"], owner=home, name="two", again=True)["entry"]["name"] == renamed["name"]
    assert ask("trash", uuid=made["uuid"]) == {}
    assert ask("trash", uuid=made["uuid"], again=True) == {}
    with pytest.raises(NoSuchRecord):
        ask("trash", uuid=made["uuid"])


def test_a_name_that_somebody_else_took_meanwhile_is_taken(ask, catalog):
    catalog.create(name="one", manifest=FOO)
    with pytest.raises(NameTaken):
        ask("mkdir", owner=catalog.home().uuid, name="one", again=True)


def test_a_refresh_is_what_turns_one_text_into_the_other(ask, catalog):
    record = catalog.create(name="one", manifest=FOO)
    assert ask("refresh", tree=7, uuid=record.uuid, pdh=record.pdh)["outcome"]["effects"] == []
    saved = catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=pdh(BAR), manifest=BAR))
    outcome = ask("refresh", tree=7, uuid=record.uuid, pdh=record.pdh)["outcome"]
    assert (outcome["tree"], outcome["version"], outcome["pdh"]) == (7, saved.version, saved.pdh)
    assert outcome["ours_pdh"] == record.pdh
    assert len(outcome["effects"]) == 2


def test_requests_that_are_known(catalog, tmp_path):
    lookups = Lookups(catalog, tmp_path)
    assert lookups.knows("home")
    assert not lookups.knows("commit")
