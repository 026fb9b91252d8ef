"""The committer's merge: text and effects."""

from __future__ import annotations

from arvfuse.model.collections import PDH, Save
from arvfuse.model.manifests import Manifest
from arvfuse.model.merge import Put, from_json
from arvfuse.model.normalizing import pdh
from arvfuse.model.records import Base
from arvfuse.sdk.merging import TextsAhead, merged_text
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.replica import ReplicaTree
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree
from tests.support.hosts import make_catalog

A = "781e5e245d69b566979b86e28d23f2c7+10"


def text(**sizes: int) -> bytes:
    return f". {A} {' '.join(f'0:{size}:{name}' for name, size in sizes.items())}\n".encode() if sizes else b""


def merged(base: bytes, ours: bytes, theirs: bytes, *, ours_ns: int = 5) -> tuple[bytes, list[object]]:
    tree = Tree(Manifest(ours), reserve=Numbers(1).take)
    for _, node in tree.table(tree.root).items():
        assert isinstance(node, FileNode)
        node.mtime_ns = ours_ns
    result, effects, _ = merged_text(
        base=Manifest(base), ours=tree, ours_text=ours, theirs=Manifest(theirs), theirs_ns=10, now_ns=0
    )
    return result, [from_json(effect) for effect in effects]


def test_nothing_of_either_is_lost() -> None:
    result, effects = merged(text(a=1, b=1), text(a=2, b=1), text(a=1, b=3, c=4))
    assert result == text(a=2, b=3, c=4)
    assert effects == [Put((b"b",), ((3, A, 0),)), Put((b"c",), ((4, A, 0),))]


def test_equal_sides_need_nothing() -> None:
    assert merged(text(a=1), text(a=2), text(a=2)) == (text(a=2), [])
    assert merged(text(a=1), text(a=2), text(a=1)) == (text(a=2), [])


def test_the_newer_change_keeps_the_name() -> None:
    for ours_ns, kept, aside in ((5, 3, 2), (15, 2, 3)):
        result, _ = merged(text(a=1), text(a=2), text(a=3), ours_ns=ours_ns)
        assert result.decode() == f". {A} 0:{kept}:a 0:{aside}:a~19700101-000000~conflict~\n"


def test_what_a_merge_needs_is_read_ahead_where_the_record_moved() -> None:
    catalog = make_catalog()
    record = catalog.create(name="c", manifest=text(a=1))
    tree = ReplicaTree(1, Base("record", record.uuid, 1, record.pdh, 0, "", None), 0, record.pdh, Manifest(text(a=1)))
    tree.uuid, tree.merge_base = record.uuid, record.pdh
    ahead = TextsAhead(catalog)
    ahead.load([tree])
    assert ahead.take(record.pdh) is None, "nothing moved"
    save = Save(uuid=record.uuid, expect=record.version, pdh=PDH(pdh(text(a=2))), manifest=text(a=2))
    theirs = catalog.save(save)
    for _ in range(2):
        ahead.load([tree])
        assert (ahead.take(theirs.pdh), ahead.take(record.pdh)) == (text(a=2), text(a=1))
        assert ahead.take(theirs.pdh) is None, "once"
    ahead.load([tree])
    ahead.drop()
    assert ahead.take(theirs.pdh) is None
    tree.uuid = "zzzzz-4zz18-000000000000000"
    ahead.load([tree])  # who needs it says why it fails
    TextsAhead(None).load([tree])
