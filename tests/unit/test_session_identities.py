"""What names a collection, at its edges."""

from __future__ import annotations

import pytest

from arvfuse.backend.identities import Resolved
from arvfuse.errors import ArgumentError, NoSuchRecord
from arvfuse.model.collections import PDH
from arvfuse.session import open as open_session
from tests.support.clock import FakeClock


@pytest.fixture
def session(tmp_path):
    with open_session(tmp_path, clock=FakeClock(auto=True), unsafe_filesystem=True) as opened:
        yield opened


def test_slashes_more_than_needed_are_passed_over(session):
    project = session.catalog.create_project(name="p")
    record = session.catalog.create(name="c", owner=project.uuid)
    assert session.resolve("//home//p/c//d///f/") == Resolved(record, record.pdh, "d/f", True)
    assert session.resolve(f"/{record.uuid}//d") == Resolved(record, record.pdh, "d", True)
    for nothing in ("", "/", "//"):
        with pytest.raises(ArgumentError, match="not a collection; "):
            session.resolve(nothing)


def test_it_is_opened_by_what_can_be_written_to(session):
    record = session.catalog.create(name="c")
    assert session.resolve("c").identity == record.uuid
    assert session.resolve("c@1").identity == session.resolve(record.pdh).identity == record.pdh
    assert Resolved(None, PDH("x"), "", False).identity == "x"


@pytest.mark.parametrize("name", ["c\udce9", "c@\N{SUPERSCRIPT TWO}", "c@", "@1", "c@" + "9" * 30, "home", "home/home"])
def test_what_no_record_can_be_called_is_not_there(session, name):
    session.catalog.create(name="c")
    with pytest.raises(NoSuchRecord, match=": no such collection; "):
        session.resolve(name)


def test_a_collection_may_be_called_home_or_like_a_version(session):
    home = session.catalog.create(name="home")
    versioned = session.catalog.create(name="c@1")
    assert session.resolve("home").record == session.resolve("home/home").record == home
    assert session.resolve("c@1") == Resolved(versioned, versioned.pdh, "", True)
