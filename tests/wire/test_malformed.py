"""Whatever comes from the kernel: never a crash, exactly one reply, or none where there is none."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import UNANSWERED, Op
from arvfuse.model.manifests import Manifest
from tests.support.engines import Mounted
from tests.support.fakekernel import FakeKernel, request


@pytest.fixture(scope="module")
def kernel() -> Iterator[FakeKernel]:
    """One for all examples: what one does to it, the next one meets."""
    with tempfile.TemporaryDirectory() as directory:
        mounted = Mounted(Path(directory), root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
        mounted.write_file(1, b"f", b"hello")
        made = FakeKernel(mounted.ops, Wanted(writeback=True))
        yield made
        made.close()


NAMES = st.sampled_from([b"f", b"g", b"", b"x" * 256, b"a/b", b"..", b".", b"\xff"])
NUMBERS = st.sampled_from([0, 1, 2, 3, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Numbers and names as requests are made of them, cut off somewhere, or anything."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return draw(st.binary(max_size=200))
    parts = [draw(NUMBERS).to_bytes(8, "little") for _ in range(draw(st.integers(0, 11)))]
    names = [draw(NAMES) + b"\0" for _ in range(draw(st.integers(0, 2)))]
    body = b"".join([*parts, *names])
    return body[: draw(st.integers(0, len(body)))] if kind == 1 else body


@given(op=st.sampled_from([*Op, 0, 7, 19, 54, 4096, (1 << 32) - 1]), node=NUMBERS, body=bodies())
def test_any_body_of_any_operation(kernel: FakeKernel, op: int, node: int, body: bytes) -> None:
    unique = kernel.send(op, node, body)
    answers = kernel.answers()
    if op in UNANSWERED:
        assert answers == []
    else:
        assert [answer.unique for answer in answers] == [unique]
        assert answers[0].error == 0 or answers[0].error in errno.errorcode
        assert not answers[0].error or not answers[0].body
    assert kernel.session.parked == 0


@given(message=st.binary(min_size=1, max_size=100))
def test_any_message(kernel: FakeKernel, message: bytes) -> None:
    kernel.send_raw(message)
    assert len(kernel.answers()) <= 1


@pytest.mark.parametrize("says", [0, 39, 41, 1 << 20, (1 << 32) - 1])
@pytest.mark.parametrize("op", [Op.GETATTR, Op.WRITE, Op.FORGET, 4711])
def test_a_length_that_is_not_true(kernel: FakeKernel, caplog: pytest.LogCaptureFixture, says: int, op: int) -> None:
    body = bytes(16)
    kernel.send_raw(request(op, 1000, 1, body, length=says))
    assert [(answer.unique, answer.error) for answer in kernel.answers()] == [(1000, errno.EIO)] * (op != Op.FORGET)
    assert "malformed request" in caplog.text


WRITE = wire.WRITE_IN.pack(1, 0, 5, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (Op.LOOKUP, b"no NUL"),
        (Op.LOOKUP, b"\0"),
        (Op.LOOKUP, b""),
        (Op.LOOKUP, b"two\0names\0"),
        (Op.MKDIR, wire.MKDIR_IN.pack(0, 0)),
        (Op.MKDIR, wire.MKDIR_IN.pack(0, 0)[:5]),
        (Op.CREATE, wire.CREATE_IN.pack(0, 0, 0, 0) + b"cut o"),
        (Op.RENAME, wire.RENAME_IN.pack(1) + b"only one\0"),
        (Op.RENAME2, wire.RENAME2_IN.pack(1, 0, 0) + b"a\0b"),
        (Op.SETATTR, bytes(wire.SETATTR_IN.size - 1)),
        (Op.OPEN, b""),
        (Op.READ, bytes(wire.READ_IN.size - 1)),
        (Op.WRITE, WRITE + b"four"),
        (Op.WRITE, WRITE + b"sixsix"),
        (Op.WRITE, WRITE[:-1]),
        (Op.FSYNC, b"\0"),
        (Op.RELEASE, b""),
        (Op.LSEEK, b""),
        (Op.FALLOCATE, b""),
        (Op.READDIR, b"short"),
    ],
)
def test_malformed_requests_are_refused_and_logged(
    kernel: FakeKernel, caplog: pytest.LogCaptureFixture, op: Op, body: bytes
) -> None:
    assert kernel.ask(op, 1, body).error == errno.EIO
    assert "malformed request" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("count", [2, 1000, (1 << 32) - 1])
def test_forgetting_more_than_there_is(kernel: FakeKernel, caplog: pytest.LogCaptureFixture, count: int) -> None:
    kernel.send(Op.BATCH_FORGET, 0, wire.BATCH_FORGET_IN.pack(count, 0) + wire.FORGET_ONE.pack(1, 1))
    kernel.send(Op.FORGET, 1, b"short")
    kernel.send(Op.INTERRUPT, 0, b"short")
    assert kernel.answers() == []
    assert caplog.text.count("malformed request") == 3
