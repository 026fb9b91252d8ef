"""Who holds a mount: found by links below /proc, of a made-up one and of the real one."""

from __future__ import annotations

import os

from arvfuse.supervisor.holders import Holder, holders


def make(proc, process, *, cwd="/", descriptors=(), maps="", command="cat"):
    directory = proc / str(process)
    (directory / "fd").mkdir(parents=True)
    (directory / "cwd").symlink_to(cwd)
    (directory / "root").symlink_to("/")
    for number, target in enumerate(descriptors):
        (directory / "fd" / str(number)).symlink_to(target)
    (directory / "maps").write_text(maps)
    (directory / "comm").write_text(f"{command}\n")


def test_descriptors_directories_and_mappings_hold(tmp_path):
    make(tmp_path, 10, cwd="/mnt", command="bash")
    make(tmp_path, 11, descriptors=["/etc/passwd", "/mnt/home/a file"])
    make(tmp_path, 12, maps="7f00-7f01 r--s 00000000 00:27 99  /mnt/home/mapped\n")
    make(tmp_path, 13, cwd="/mnt2", descriptors=["socket:[1]"], maps="7f00-7f01 r--p 0 fe:00 9 /usr/lib/x\nshort\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "14").mkdir()  # ended meanwhile
    found = holders("/mnt", device="0:39", proc=tmp_path)
    assert found == [
        Holder(10, "bash", "/mnt"),
        Holder(11, "cat", "/mnt/home/a file"),
        Holder(12, "cat", "/mnt/home/mapped"),
    ]
    assert str(found[1]) == "cat[11] (/mnt/home/a file)"


def test_this_process_holds_what_it_has_open(tmp_path):
    with open(tmp_path / "file", "w"):
        assert os.getpid() in [holder.process for holder in holders(tmp_path, device="0:0")]
