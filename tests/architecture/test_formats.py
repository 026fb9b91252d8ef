"""doc/formats.md says what the code writes: types, sizes, versions, columns."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from arvfuse.backend import mountdirs
from arvfuse.catalogs import schema
from arvfuse.model import dirindex, lineindex, manifests, records, sealed
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.records import (
    CODES,
    FILE_HEADER,
    FORMAT_VERSION,
    HEADER,
    INLINE_BODY_BYTES,
    MAGIC,
    ORPHAN,
    Adopt,
    Attrs,
    Boundary,
    Create,
    Forget,
    Mkdir,
    Move,
    Remove,
    Rename,
    Seal,
    Segments,
    Truncate,
    WriteBlock,
)
from arvfuse.sdk.checkpoints import Checkpoints
from arvfuse.sdk.log import LOG_FILE_BYTES, log_path
from arvfuse.sdk.moved import write_moved
from arvfuse.stores import index
from tests.support.sources import TOP

PAGE = (TOP / "doc/formats.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the first table that begins with the cell *heading*, by first cell."""
    table = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[ -|]*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None, heading
    found = {}
    for line in table[1].splitlines():
        first, *others = (cell.strip().strip("`") for cell in line.strip("|").split(" |"))
        found[first] = others
    return found


def test_every_record_type_has_its_code() -> None:
    assert {code: cells[0] for code, cells in rows("code").items()} == {
        str(code): kind.__name__ for kind, code in CODES.items()
    }


def test_the_fixed_parts_have_these_sizes() -> None:
    one, other = Segments(1, ((1, 1, 1),)), Seal(1, 1, ((1, 1),))
    measured = {
        kind: len(records.encode(body))
        for kind, body in {
            "Adopt": Adopt(1, 1, b""),
            "Create": Create(1, 1, b"", 0),
            "Mkdir": Mkdir(1, 1, b""),
            "Remove": Remove(1, b""),
            "Rename": Rename(1, b"", 1, b""),
            "Move": Move(1, 1, b"", 1, 1, b""),
            "WriteBlock": WriteBlock(1, 1, 1, 1, 1),
            "Truncate": Truncate(1, 1),
            "Segments": Segments(1, ()),
            "Seal": Seal(1, 1, ()),
            "Attrs": Attrs(1, 1, 1),
            "Boundary": Boundary(),
            "Forget": Forget(1),
        }.items()
    }
    measured["Carried"] = len(records.encode_carried([]))
    each = {
        "Segments": len(records.encode(one)) - measured["Segments"],
        "Seal": len(records.encode(other)) - measured["Seal"],
        "Carried": len(records.encode_carried([(1, b"")])) - measured["Carried"],
    }
    measured["WriteInline"] = INLINE_BODY_BYTES
    said = {kind: cells[0] for kind, cells in rows("type").items()}
    assert said == {
        kind: f"{size}, and {each[kind]} for each" if kind in each else str(size) for kind, size in measured.items()
    }


def layout(section: str) -> list[tuple[int, int]]:
    """(offset, bytes) of the fields in the table below a heading, as far as both are numbers."""
    text = PAGE.split(f"{section}\n", 1)[1].split("\n#", 1)[0]
    return [(int(offset), int(size)) for offset, size in re.findall(r"^\| (\d+) \| (\d+) \|", text, re.MULTILINE)]


@pytest.mark.parametrize(("section", "size"), [("### File header", FILE_HEADER.size), ("### Record", HEADER.size)])
def test_the_headers_have_no_gap_and_their_size(section: str, size: int) -> None:
    fields = layout(section)
    assert [offset for offset, _ in fields] == [sum(each for _, each in fields[:n]) for n in range(len(fields))]
    assert sum(each for _, each in fields) == size


def test_the_words_at_the_begin_of_files(tmp_path: Path) -> None:
    assert f"`{MAGIC.decode()}`" in PAGE
    assert f"flags: {ORPHAN} = ORPHAN" in PAGE
    write_moved(tmp_path / "table", [(0, 1, 2, "a", 3), (7, 8, 9, "bcd", 10)])
    data = (tmp_path / "table").read_bytes()
    head, *entry = layout("## moved/")
    assert data[: head[1]].decode() in PAGE
    entries = layout("## moved/")[3:]
    assert entries[-1] == (28, 8)
    assert len(data) == 16 + 2 * sum(size for _, size in entries) + 2 + len("a") + 2 + len("bcd")
    assert entry


def test_versions_and_application_ids() -> None:
    versions = {what: cells[0] for what, cells in rows("what").items()}
    assert versions == {
        "log": str(FORMAT_VERSION),
        "block index": str(index.SCHEMA_VERSION),
        "directory index": str(dirindex.FORMAT_VERSION),
        "line index": str(lineindex.FORMAT_VERSION),
        "catalog": str(len(schema.MIGRATIONS)),
    }
    assert f"catalog {schema.APPLICATION_ID:#x}" in PAGE
    assert f"block index {index.APPLICATION_ID:#x}" in PAGE


@pytest.mark.parametrize(
    ("section", "module", "tables"),
    [
        ("#### Line index", lineindex, {"N + 1 lines": lineindex.LINE.size}),
        (
            "#### Directory index",
            dirindex,
            {"E + 1 entries": dirindex.ENTRY.size, "L + 1 locators": dirindex.LOCATOR.size},
        ),
    ],
)
def test_indexes(section: str, module: Any, tables: dict[str, int]) -> None:
    assert sum(size for _, size in layout("### Indexes")) == sealed.HEADER.size
    counts = [(offset, size) for offset, size in layout(section) if offset >= sealed.HEADER.size]
    assert counts[0][0] == sealed.HEADER.size
    assert sum(size for _, size in counts) == module.COUNTS.size
    for what, size in tables.items():
        assert re.search(rf"\| {size} each \| {re.escape(what)}", PAGE)
    assert f"`{module.MAGIC.decode()}`" in PAGE


def test_what_is_indexed_and_the_entries_of_directories() -> None:
    entry = [(offset, size) for offset, size in layout("#### Directory index") if offset < sealed.HEADER.size]
    assert sum(size for _, size in entry) == dirindex.ENTRY.size
    assert f"line is longer than {manifests.SMALL_BYTES >> 10} KiB" in PAGE
    assert f"than {manifests.SMALL_CHILDREN} subdirectories" in PAGE


def columns(path: Path) -> dict[str, list[str]]:
    """The columns of every table of an SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in tables
            if not table.startswith("sqlite_")
        }


def test_the_tables_of_the_catalog(tmp_path: Path) -> None:
    schema.make_file(tmp_path / "catalog.sqlite3", now_ns=0)
    said = {table: cells[0].split(", ") for table, cells in rows("table").items()}
    assert said == columns(tmp_path / "catalog.sqlite3")


def test_the_table_of_the_block_index(tmp_path: Path) -> None:
    index.BlockIndex(tmp_path / "index.sqlite3").close()
    assert columns(tmp_path / "index.sqlite3") == {"blocks": list(rows("column of `blocks`"))}


def test_names_of_files(tmp_path: Path) -> None:
    names = set(rows("name"))
    assert {mountdirs.LOCK, mountdirs.CONTROL, f"{mountdirs.MESSAGES}/", mountdirs.DRAINING} <= names
    assert log_path(Path(), 1) == Path("log/00000001")
    assert "log/00000001` ..." in names
    Checkpoints(tmp_path).keep(5, 9, "d41d8cd98f00b204e9800998ecf8427e+0", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5-9"]
    assert "checkpoint-<tree>-<N>" in names
    assert f"{BLOCK_BYTES:,} of them" in PAGE
    assert f"at most {LOG_FILE_BYTES >> 20} MiB each" in PAGE
