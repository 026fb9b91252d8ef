"""Notices as the kernel reads them."""

from __future__ import annotations

import os
import struct

import pytest

from arvfuse.drivers.notices import (
    DEVICE,
    EXPIRE_ONLY,
    INVAL_ENTRY,
    INVAL_INODE,
    DeviceNotices,
    encode_entry,
    encode_inode,
    open_devices,
)
from arvfuse.ports import KernelNotices


def test_an_entry_notice_is_header_parent_length_flags_and_a_terminated_name() -> None:
    message = encode_entry(7, b"na me")
    assert struct.unpack("=IiQQII", message[:32]) == (len(message), INVAL_ENTRY, 0, 7, 5, EXPIRE_ONLY)
    assert message[32:] == b"na me\0"


@pytest.mark.parametrize(("attributes_only", "offset"), [(True, -1), (False, 0)])
def test_an_inode_notice_names_pages_by_a_range(attributes_only: bool, offset: int) -> None:
    message = encode_inode(7, attributes_only=attributes_only)
    assert struct.unpack("=IiQQqq", message) == (40, INVAL_INODE, 0, 7, offset, 0)


def test_notices_go_to_a_duplicate_of_the_device() -> None:
    reader, writer = os.pipe()
    port = DeviceNotices(writer)
    os.close(writer)
    notices: KernelNotices = port
    notices.invalidate_entry(1, b"a")
    notices.invalidate_inode(2)
    assert os.read(reader, 100) == encode_entry(1, b"a") + encode_inode(2, attributes_only=False)
    port.close()
    port.close()
    notices.invalidate_entry(1, b"late")  # no failure, whatever became of the mount
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_notices_that_share_the_device_leave_it_open() -> None:
    reader, writer = os.pipe()
    port = DeviceNotices(writer, share=True)
    port.invalidate_inode(2)
    assert os.read(reader, 100) == encode_inode(2, attributes_only=False)
    port.close()
    port.invalidate_inode(3)
    os.write(writer, b"end")
    assert os.read(reader, 100) == b"end"
    os.close(reader)
    os.close(writer)


def test_a_refusal_that_is_not_expected_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    port = DeviceNotices(reader)  # not for writing: EBADF is what a dead mount would say too
    port.invalidate_inode(2)
    assert caplog.text == ""
    port.close()
    port = DeviceNotices(writer)
    os.close(reader)
    port.invalidate_inode(2)  # EPIPE
    assert "refused" in caplog.text
    port.close()
    os.close(writer)


@pytest.mark.mounted
def test_connections_to_a_mount_are_found() -> None:
    device = os.open(DEVICE, os.O_RDWR)
    try:
        assert device in open_devices()
    finally:
        os.close(device)
    assert device not in open_devices()
