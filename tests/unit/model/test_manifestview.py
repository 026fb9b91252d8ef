"""Manifests as sides of a merge."""

from __future__ import annotations

from arvfuse.model.manifests import Manifest
from arvfuse.model.manifestview import ManifestView
from arvfuse.model.merge import Delete, FileValue, MakeDir, Put, merge

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "a925576942e94b2ef57a066101b48876+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"


def view(text: str, changed_ns: int = 0) -> ManifestView:
    return ManifestView(Manifest(text.encode()), changed_ns=changed_ns)


def test_entries() -> None:
    root = view(f". {A} 0:3:f 5:5:g 3:2:f\n./d/e {B} 0:1:h\n./z {Z} 0:0:\\056\n", 7)
    assert root.files() == {b"f": FileValue(((5, A, 0),), 5, 7), b"g": FileValue(((5, A, 5),), 5, 7)}
    assert list(root.dirs()) == [b"d", b"z"]
    below = root.dirs()[b"d"].dirs()[b"e"]
    assert below.files() == {b"h": FileValue(((1, B, 0),), 1, 7)}
    assert below.dirs() == {}


def test_fingerprints_are_of_the_subtree_without_hints() -> None:
    one = view(f". {A} 0:1:f\n./d {B} 0:1:h\n")
    other = view(f". {A} 0:2:f\n./d {B}+Asig@1 0:1:h\n")
    assert one.fingerprint() != other.fingerprint()
    assert one.dirs()[b"d"].fingerprint() == other.dirs()[b"d"].fingerprint()
    assert one.fingerprint() == view(f". {A} 0:1:f\n./d {B} 0:1:h\n").fingerprint()


def test_merging_manifests() -> None:
    base = f". {A} 0:1:f\n./d {A} 0:1:h\n./same {A} 0:1:x\n"
    ours = f". {A} 0:2:f\n./d {A} 0:1:h\n./same {A} 0:1:x\n"
    theirs = f". {A} 0:3:f\n./new/below {B} 0:4:k\n./same {A} 0:1:x\n"
    effects = merge(view(base), view(ours, 5), view(theirs, 6), now_ns=0)
    assert [effect for effect in effects if effect.path[0].startswith(b"f")] == [
        Put((b"f~19700101-000000~conflict~",), ((2, A, 0),)),
        Put((b"f",), ((3, A, 0),)),
    ]
    assert Delete((b"d", b"h")) in effects
    assert effects.index(Delete((b"d", b"h"))) < effects.index(Delete((b"d",)))
    made = [MakeDir((b"new",)), MakeDir((b"new", b"below")), Put((b"new", b"below", b"k"), ((4, B, 0),))]
    assert [effect for effect in effects if effect.path[0] == b"new"] == made
    assert len(effects) == 7
