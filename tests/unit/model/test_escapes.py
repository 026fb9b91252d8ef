"""Names in manifests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.model.escapes import escape, show, unescape
from tests.support.profiles import searching


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain-name_1.txt", b"plain-name_1.txt"),
        (b"x y:z\\w\tt", b"x\\040y\\072z\\134w\\011t"),
        (b"\x00\x1f ", b"\\000\\037\\040"),
        (b"\x7f", b"\x7f"),
        ("café".encode(), "café".encode()),
        ("\u00a0\u2028".encode(), "\u00a0\u2028".encode()),
        (b"caf\xe9", b"caf\\351"),
        ("é ".encode() + b"\xff", "é\\040\\377".encode()),
        (b"\xed\xa0\x80", b"\\355\\240\\200"),
        (b"a/b", b"a/b"),
        (b"", b""),
    ],
)
def test_escape(name: bytes, text: bytes) -> None:
    assert escape(name) == text
    assert unescape(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"caf\\303\\251", "café".encode()),
        (b"\\056", b"."),
        (b"\\377\\000", b"\xff\x00"),
        (b"a\\\\b", b"a\\b"),
        (b"a\\\\040", b"a\\040"),
        (b"a\\400b", b"a\\400b"),
        (b"a\\777b", b"a\\777b"),
        (b"a\\09b", b"a\\09b"),
        (b"a\\", b"a\\"),
        (b"a\\x", b"a\\x"),
        (b"raw:colon", b"raw:colon"),
    ],
)
def test_unescape(text: bytes, name: bytes) -> None:
    assert unescape(text) == name


def test_a_message_shows_any_name_as_text() -> None:
    assert show("café".encode()) == "café"
    assert show(b"caf\xff") == "caf\udcff"


@searching(full=5000)
@given(st.binary(max_size=40))
def test_every_name_comes_back_and_is_a_word_of_utf8(name: bytes) -> None:
    text = escape(name)
    assert unescape(text) == name
    assert not set(text) & {*range(0x21), 0x3A}
    text.decode()
