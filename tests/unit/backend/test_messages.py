"""Messages: what goes in comes out, whatever its size, and a peer that is gone is seen."""

from __future__ import annotations

import os

import pytest

from arvfuse import errors
from arvfuse.backend.messages import (
    MAX_MESSAGE_BYTES,
    Channel,
    Message,
    Received,
    decode,
    decode_change,
    decode_error,
    decode_record,
    encode,
    encode_change,
    encode_error,
    encode_record,
)
from arvfuse.model.collections import PDH, Change, CollectionRecord, ProjectRecord, Version


@pytest.fixture
def pair(tmp_path):
    one, other = Channel.pair(tmp_path / "messages")
    yield one, other
    one.close()
    other.close()


def test_names_that_are_not_utf8_survive():
    message: Message = {"name": b"caf\xe9".decode("utf-8", "surrogateescape")}
    assert decode(encode(message)) == message


def test_only_objects_are_messages():
    with pytest.raises(ValueError):
        decode(b"[1]")


@pytest.mark.parametrize(
    "error",
    [
        errors.NoSuchEntry("home/a"),
        errors.NoSuchEntry(),
        errors.NotSupported("home/x", "no plain files here"),
        errors.NoSuchRecord("zzzzz-4zz18-000000000000000"),
        errors.StoreUnavailable("out of reach"),
    ],
)
def test_errors_arrive_as_the_same_class_and_text(error):
    arrived = decode_error(decode(encode(encode_error(error))))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


def test_an_error_of_another_kind_arrives_as_the_root_class():
    arrived = decode_error(encode_error(KeyError("x")))
    assert type(arrived) is errors.ArvfuseError
    assert "KeyError" in str(arrived)


def test_every_class_of_the_hierarchy_can_be_sent():
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.ArvfuseError):
            assert type(decode_error(encode_error(cls("x")))) is cls


def test_records_survive():
    collection = CollectionRecord(
        uuid="u",
        owner="o",
        name="n",
        version=Version(3),
        pdh=PDH("p"),
        properties={"a": [1]},
        storage_classes=("a", "b"),
    )
    project = ProjectRecord(uuid="u", owner="o", name="n", kind="user")
    encoded = encode_record(collection) | {"manifest": "/some/where"}
    assert decode_record(decode(encode(encoded))) == collection
    assert decode_record(decode(encode(encode_record(project)))) == project
    assert encoded["type"] == "collection"


def test_changes_survive():
    change = Change(
        uuid="u",
        kind="collection",
        event="update",
        version=Version(2),
        pdh=PDH("p"),
        owner="o",
        old_owner="o",
        writer="w",
    )
    assert decode_change(decode(encode(encode_change(change) | {"echo": True}))) == change


def test_a_message_goes_through(pair):
    one, other = pair
    one.send({"op": "home"})
    assert other.receive() == Received({"op": "home"}, ())


def test_a_long_message_goes_through_a_file_that_is_removed(pair, tmp_path):
    one, other = pair
    long = {"names": "x" * (MAX_MESSAGE_BYTES + 1)}
    one.send(long)
    received = other.receive()
    assert received is not None
    assert received.message == long
    assert list((tmp_path / "messages").iterdir()) == []


def test_descriptors_travel(pair):
    one, other = pair
    reader, writer = os.pipe()
    one.send({"do": "link"}, descriptors=[writer])
    os.close(writer)
    received = other.receive()
    assert received is not None
    os.write(received.descriptors[0], b"hello")
    os.close(received.descriptors[0])
    assert os.read(reader, 10) == b"hello"
    os.close(reader)


def test_a_descriptor_becomes_a_channel(pair, tmp_path):
    one, other = pair
    again = Channel.of_descriptor(os.dup(other.fileno()), tmp_path)
    one.send({"n": 1})
    assert again.receive() == Received({"n": 1}, ())
    again.close()


def test_trying_to_send_never_waits_and_leaves_no_file(pair, tmp_path):
    one, _ = pair
    sent = 0
    while one.try_send({"fill": "x" * 30000}):
        sent += 1
    assert sent > 0
    assert not one.try_send({"fill": "x" * (2 * MAX_MESSAGE_BYTES)})
    assert list((tmp_path / "messages").iterdir()) == []


def test_a_peer_that_is_gone_is_seen_by_both_sides(pair):
    one, other = pair
    other.send({"unread": 1})
    other.close()
    with pytest.raises(ConnectionError):
        one.send({"op": "home"})
    assert one.receive() is not None
    assert one.receive() is None


def test_shutting_ends_the_conversation_on_both_sides(pair):
    one, other = pair
    one.shut()
    one.shut()
    assert one.receive() is None
    assert other.receive() is None
