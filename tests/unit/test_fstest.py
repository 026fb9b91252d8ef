"""The stress program finds what it is there to find: every scenario is run clean, and run against damage."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fstest
from bench.fstest import pages, running, scenarios, worker

QUICK = ["--seed", "7", "--processes", "3", "--cycles", "4"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "under test"
    made.mkdir()
    return made


def once(do: Callable[[Path], None], flag: Path) -> worker.Interfere:
    """*do* for the first file only, whichever process comes first."""

    def interfere(path: Path) -> None:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        do(path)

    return interfere


def test_a_clean_run_exits_0_says_so_and_leaves_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fstest.main([str(directory), *QUICK]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in scenarios.SCENARIOS)
    assert "MiB/s" in out
    assert out.endswith("fstest: clean\n")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_one_changed_byte_is_found_in_every_scenario(
    directory: Path, scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = fstest.main([str(directory), *QUICK, "--scenario", scenario], interfere=fstest.flip_byte)
    said = capsys.readouterr().err
    assert code == 1
    assert "WRONG" in said
    assert "check sum wrong" in said or "lost" in said
    assert f"--small --processes 3 --cycles 4 --seed 7 --scenario {scenario}" in said
    assert list(directory.iterdir()) != []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 1),
        lambda path: path.write_bytes(path.read_bytes() + b"!"),
        lambda path: path.unlink(),
        lambda path: os._exit(9),
    ],
    ids=["cut", "longer", "gone", "a process that dies"],
)
def test_other_damage_is_found(
    directory: Path, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    interfere = once(damage, tmp_path / "flag")
    assert fstest.main([str(directory), *QUICK, "--scenario", "own-files"], interfere=interfere) == 1
    assert "own-files: WRONG: process" in capsys.readouterr().err


def test_a_lost_page_of_the_common_file_is_found(directory: Path, tmp_path: Path) -> None:
    def replaced(path: Path) -> None:
        path.rename(tmp_path / "away")
        path.touch()

    interfere = once(replaced, tmp_path / "flag")
    assert fstest.main([str(directory), *QUICK, "--scenario", "same-file"], interfere=interfere) == 1


def test_an_append_that_vanished_is_found(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def forget(path: Path) -> None:
        os.truncate(path.with_name("log"), 0)

    assert fstest.main([str(directory), *QUICK, "--scenario", "same-file"], interfere=forget) == 1
    assert "appends" in capsys.readouterr().err


def test_bad_directories_and_numbers_exit_2(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fstest.main([str(directory / "missing")]) == 2
    assert "not a directory" in capsys.readouterr().err
    assert fstest.main([str(directory), "--sandbox"]) == 2
    assert "home/" in capsys.readouterr().err
    assert fstest.main([str(directory), "--cycles", "0"]) == 2
    assert fstest.main(["/proc"]) == 2
    assert "nothing can be made" in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        fstest.main([str(directory), "--scenario", "none"])
    assert usage.value.code == 2


def test_sandbox_stays_below_home_and_goes(directory: Path) -> None:
    (directory / "home/test4").mkdir(parents=True)
    assert fstest.main([str(directory), *QUICK, "--sandbox", "--keep", "--scenario", "collections"]) == 0
    names = {path.name for path in (directory / "home").iterdir()} - {"test4"}
    assert len(names) == 2 + 3 * 4
    assert all(name.startswith("fstest-7-0") for name in names)
    assert fstest.main([str(directory), *QUICK, "--sandbox"]) == 0
    assert {path.name for path in (directory / "home").iterdir()} - {"test4"} == names


def test_collections_take_numbers_that_are_free(directory: Path) -> None:
    (directory / "test4").mkdir()
    assert fstest.main([str(directory), *QUICK, "--keep", "--scenario", "collections"]) == 0
    tests = {path.name for path in directory.iterdir() if path.name.startswith("test")}
    assert tests == {"test4", *(f"test{n}" for n in range(5, 17))}


def test_the_same_seed_writes_the_same_bytes(directory: Path) -> None:
    for _ in range(2):
        assert fstest.main([str(directory), *QUICK, "--keep", "--scenario", "own-files"]) == 0

    def content(top: Path) -> dict[str, bytes]:
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}

    assert content(directory / "fstest-7-0") == content(directory / "fstest-7-1") != {}


def test_several_views_of_one_place(directory: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    view.symlink_to(directory)
    assert fstest.main([str(directory), str(view), *QUICK]) == 0


def parted(path: Path) -> None:
    """What a merge does to the losing side."""
    if path.name == "data":
        path.rename(path.with_name("data~20260102-030405~conflict~"))
        path.touch()


def test_with_several_views_a_conflict_file_is_a_survivor(directory: Path, tmp_path: Path) -> None:
    view, flag = tmp_path / "view", tmp_path / "flag"
    view.symlink_to(directory)
    options = [*QUICK, "--scenario", "same-file"]
    assert fstest.main([str(directory), str(view), *options], interfere=once(parted, flag)) == 0
    flag.unlink()
    assert fstest.main([str(directory), *options], interfere=once(parted, flag)) == 1


def test_views_that_do_not_show_one_place(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenarios, "SETTLE_S", 0.0)
    assert fstest.main([str(directory), str(tmp_path), *QUICK]) == 1
    assert "several DIRs must show one place" in capsys.readouterr().err


def test_a_process_that_hangs_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "STALL_S", 0.0)
    read_end, write_end = os.pipe()
    try:
        hang: worker.Interfere = lambda _path: os.read(read_end, 1) and None  # noqa: E731 - nobody writes: for ever
        assert fstest.main([str(directory), *QUICK], interfere=hang) == 1
    finally:
        os.close(read_end)
        os.close(write_end)
    assert "it hangs" in capsys.readouterr().err


def test_pages_say_who_wrote_them() -> None:
    page = fstest.Page(seed=1, writer=2, version=3, tag=4, number=5)
    data = page.encode()
    assert len(data) == pages.PAGE_BYTES
    assert fstest.parse_page(data) == page
    for spoiled in (data[:-1], bytes(4096), b"x" * 4096, data[:3000] + b"\0" + data[3001:]):
        with pytest.raises(fstest.BadPage):
            fstest.parse_page(spoiled)
    assert page.encode() != page._replace(version=4).encode()


def test_a_model_follows_writes_holes_and_cuts() -> None:
    model, content = pages.Model(seed=1, writer=2, tag=3), bytearray()
    for index, version, size in [(0, 1, 4096), (3, 2, 16384), (3, 2, 13000), (3, 2, 13500), (1, 3, 13500), (5, 4, 0)]:
        data = model.put(index, version)
        content.extend(bytes(max(0, (index + 1) * 4096 - len(content))))
        content[index * 4096 : (index + 1) * 4096] = data
        model.cut(size)
        content = content[:size].ljust(size, b"\0")
        assert b"".join(model.expected(i) for i in range(len(model.pages))) == content
        assert model.size == len(content)


def test_commit_reads_the_record_where_there_is_one(tmp_path: Path) -> None:
    assert scenarios.commit(tmp_path) is None
    (tmp_path / scenarios.RECORD).write_text('{"portable_data_hash": "d41d8cd98f00b204e9800998ecf8427e+0"}')
    assert scenarios.commit(tmp_path) == "d41d8cd98f00b204e9800998ecf8427e+0"
    (tmp_path / scenarios.RECORD).write_text("{}")
    with pytest.raises(worker.Wrong):
        scenarios.commit(tmp_path)


def test_it_runs_as_a_program_from_anywhere(directory: Path) -> None:
    program = Path(fstest.__file__)
    command = [sys.executable, str(program), str(directory), "--cycles", "1", "--scenario", "moves"]
    assert os.spawnve(os.P_WAIT, sys.executable, command, {}) == 0
