"""Trees that are put, listed and got through the whole command, as scripts use it."""

from __future__ import annotations

import inspect
import json
import os
import sys

import pytest

from arvfuse.cli.main import main
from arvfuse.cli.output import Progress
from arvfuse.cli.transfer import get, ls, put
from arvfuse.session import open as open_session
from tests.support.clock import FakeClock
from tests.support.sessions import Session, put_file


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("ARVFUSE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capfdbinary):
    """Runs a command that must succeed in silence; its standard output."""

    def run(*arguments):
        code = main([os.fsdecode(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        assert (code, err) == (0, b"")
        return out

    return run


FILES = {
    b"a": b"first",
    b"caf\xe9/\xff\xfe": b"not text",
    b"d/e/f/deep": b"x" * 3_000_000,
    b"d/e/zero": b"",
    b"d-e": b"sorts between d and d/",
    b"odd \\ name: \t*\n": b"odd",
    b"-f": b"like an option",
}
EMPTY = [b"d/empty", b"caf\xe9/none/at/all"]


def make(top):
    for directory in EMPTY:
        os.makedirs(os.path.join(top, directory))
    for path, content in FILES.items():
        os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
        with open(os.path.join(top, path), "wb") as file:
            file.write(content)


def tree_of(top):
    found = {}
    for directory, names, files in os.walk(top):
        place = os.path.relpath(directory, top)
        found.update({os.path.normpath(os.path.join(place, name)): None for name in names})
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                found[os.path.normpath(os.path.join(place, name))] = file.read()
    return found


def test_a_tree_comes_back_as_it_was(run):
    make(b"tree")
    uuid, pdh = run("put", "tree").split()
    for source, destination, same in (
        (uuid, b"by uuid", b"by uuid/tree"),
        (pdh, b"by hash", b"by hash/tree"),
        (b"New collection/tree", b"of home", b"of home"),
        (b"home/New collection@1/tree/", b"of a version/", b"of a version"),
    ):
        assert run("get", source, destination) == b""
        assert tree_of(same) == tree_of(b"tree")
    assert tree_of(b"by uuid").keys() - {b"tree"} == {os.path.join(b"tree", path) for path in tree_of(b"tree")}


def test_the_slash_of_rsync(run):
    make(b"tree")
    inside, itself = json.loads(run("put", "--json", "tree/")), json.loads(run("put", "--json", "tree"))
    assert inside["portable_data_hash"] == run("put", "tree/.").split()[1].decode()
    assert run("ls", inside["uuid"]) == run("ls", itself["uuid"] + "/tree")
    assert run("ls", itself["uuid"]) == run("ls", inside["uuid"]).replace(b"./", b"./tree/")
    assert (inside["bytes"], itself["bytes"]) == (sum(map(len, FILES.values())),) * 2
    assert itself["entries"] == inside["entries"] + 1 == len(tree_of(b"tree")) + 1


def test_the_same_content_has_one_hash_however_it_came(run, place):
    make(b"tree")
    first, second = (run("put", "tree/").split()[1] for _ in range(2))
    run("get", first, "copy")
    assert run("put", "copy/").split()[1] == first == second
    with open_session(place / "store") as opened:
        record = opened.catalog.create(name="live")
        with Session(
            place / "mount", store=opened.store, catalog=opened.catalog, clock=FakeClock(auto=True)
        ) as session:
            tree = session.open(record)
            for path in sorted([*FILES, *EMPTY], reverse=True):
                parent = tree.root
                *above, name = path.split(b"/")
                for part in above:
                    known = dict(tree.entries(parent))
                    parent = known.get(part) or tree.mkdir(parent, part)
                if path in FILES:
                    put_file(tree, name, FILES[path], parent)
                else:
                    tree.mkdir(parent, name)
            (outcome,) = session.committed(tree)
    assert outcome.pdh == first.decode()


@pytest.fixture
def shallow_stack():
    """The interpreter stops what calls itself 200 times."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    yield
    sys.setrecursionlimit(before)


def test_a_tree_that_is_deeper_than_the_stack(run, place, shallow_stack):
    depth = 400
    at = place / "tree"
    at.mkdir()
    for _ in range(depth):
        at /= "d"
        at.mkdir()
    (at / "f").write_bytes(b"deep")
    uuid, _ = run("put", "tree/").split()
    assert run("ls", uuid) == b"./" + b"d/" * depth + b"f\n"
    run("get", uuid, "out")
    assert (place / "out" / ("d/" * depth + "f")).read_bytes() == b"deep"


def test_listings(run):
    make(b"tree")
    assert ls.__module__ == put.__module__ == get.__module__
    uuid = run("put", "--name", "caf\u00e9", "tree/").split()[0].decode()
    plain = run("ls", uuid)
    lines = [b"./caf\xe9/none/at/all/", b"./caf\xe9/\xff\xfe", b"./d/empty/", b"./d/e/zero", b"./-f"]
    assert all(line + b"\n" in plain for line in lines)
    assert b"           0 ./d/empty/\n" in run("ls", "-l", uuid)
    assert b"     3000000 ./deep\n" in run("ls", "-l", f"{uuid}/d/e/f/")
    assert run("ls", f"{uuid}/a") == b"./a\n"
    assert run("ls") == b"caf\xc3\xa9\n"
    assert json.loads(run("ls", "--json")) == {"schema": 1, "names": ["caf\u00e9"]}
    listed = json.loads(run("ls", "--json", uuid))
    assert listed["schema"] == 1
    found = {os.fsencode(entry["path"]): entry["bytes"] for entry in listed["entries"]}
    assert found == {**{path: len(content) for path, content in FILES.items()}, **dict.fromkeys(EMPTY)}


def test_records_for_scripts(run):
    make(b"tree")
    uuid, pdh = run("put", "--name", "caf\u00e9", "tree").decode().split()
    assert run("collections").decode().startswith(f"{uuid} {pdh} 1 20")
    assert run("collections").endswith(b"Z caf\xc3\xa9\n")
    answer = json.loads(run("collections", "--json"))
    (record,) = answer["collections"]
    assert (answer["schema"], record["uuid"], record["pdh"], record["version"]) == (1, uuid, pdh, 1)
    assert 1.7e9 < record["created_at"] <= record["modified_at"] < 1e10  # seconds
    assert record["trash_at"] is None
    assert json.loads(run("recover", "--json")) == {"schema": 1, "mounts": []}


def test_standard_output_is_the_file_and_nothing_else(run):
    make(b"tree")
    uuid = run("put", "tree/").split()[0].decode()
    assert run("get", f"{uuid}/d/e/f/deep", "-") == FILES[b"d/e/f/deep"]
    assert run("get", "--json", f"{uuid}/d/e/zero", "-") == b""
    assert run("get", "--quiet", os.fsencode(uuid) + b"/caf\xe9/\xff\xfe", "-") == b"not text"


def test_quiet_leaves_the_answer_and_takes_the_progress(run, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    make(b"tree")
    uuid = run("put", "--quiet", "tree/").split()[0].decode()
    assert run("get", "--quiet", uuid, "out") == b""
    assert not Progress(quiet=True).__dict__.get("_shown")


@pytest.mark.parametrize(
    "line",
    [
        b"./.. %s 0:4:f",
        b"./a/../.. %s 0:4:f",
        b"./a\\057..\\057.. %s 0:4:f",
        b". %s 0:4:..",
        b". %s 0:4:\\056\\056",
        b". %s 0:4:../f",
        b". %s 0:4:/escaped/f",
        b"/escaped %s 0:4:f",
        b"./x\\000 %s 0:4:f",
        b". %s 0:4:.",
    ],
)
def test_names_that_would_leave_the_destination_are_refused(place, capfdbinary, line):
    with open_session(place / "store") as session:
        session.catalog.create(name="evil", manifest=line % session.store.put(b"evil").encode() + b"\n")
    (place / "in").mkdir()
    os.chdir(place / "in")
    before = sorted(os.listdir(place))
    code = main(["get", "-f", "evil", "out"])
    out, err = capfdbinary.readouterr()
    assert (code in (1, 6), out, err.count(b"\n")) == (True, b"", 1)
    assert (err.startswith(b"arvfuse: "), b"; " in err, b"bug" in err) == (True, True, False)
    assert sorted(os.listdir(place)) == before
    assert [name for _, _, names in os.walk("out") for name in names] == []


def test_links_in_the_destination_are_not_followed(run, place, capfdbinary):
    make(b"tree")
    uuid = run("put", "tree/").split()[0].decode()
    (place / "victim").mkdir()
    (place / "victim" / "file").write_bytes(b"precious")
    (place / "out").mkdir()
    (place / "out" / "d").symlink_to(place / "victim")
    for arguments in (["get", uuid, "out"], ["get", "-f", uuid, "out"]):
        assert main(arguments) != 0
        assert b"out/d: in the way, and not a directory; " in capfdbinary.readouterr().err
    (place / "other").mkdir()
    (place / "other" / "a").symlink_to(place / "victim" / "file")
    assert main(["get", uuid, "other"]) == 4
    capfdbinary.readouterr()
    assert run("get", "-f", uuid, "other") == b""
    assert (place / "other" / "a").read_bytes() == b"first"
    assert tree_of(b"victim") == {b"file": b"precious"}
    # A destination that is itself a link was named by the user.
    (place / "named").symlink_to("victim")
    run("get", uuid, "named")
    assert (place / "victim" / "a").read_bytes() == b"first"
