"""The vectors of the format: manifests, their normal form and hashes, and what is read leniently."""

from __future__ import annotations

import pytest

from arvfuse.errors import InvalidManifest
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import normalize, pdh, strip
from arvfuse.model.ranges import HOLE
from arvfuse.model.rendering import render_line
from arvfuse.model.savecheck import check_for_save

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "a925576942e94b2ef57a066101b48876+10"
C = "acbd18db4cc2f85cedef654fccc4a4d8+3"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
SIGNED = "+A715fd31f8111894f717eb1003c1b0216799dd9ec@54f5dd1a"
SIGNED_AGAIN = "+A815fd31f8111894f717eb1003c1b0216799dd9ec@54f5dd1a"
ZERO = "7f614da9329cd3aebf59b91aadc30bf0+67108864"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e+0"

SAME = None

# number: input, normal form (SAME: as the input), PDH of the input, PDH of the normal form (SAME: as of the input)
VECTORS: dict[int, tuple[str, str | None, str, str | None]] = {
    1: ("", SAME, EMPTY, SAME),
    2: (f". {A} 0:10:count.txt\n", SAME, "427dabf5040c60799074d952f1340064+53", SAME),
    3: (f". {Z} 0:0:zero.txt\n", SAME, "b26c3ed33d4fb63348ced2b547c8e209+50", SAME),
    4: (
        f". {A} 0:10:f\n. {B} 0:10:f\n",
        f". {A} {B} 0:20:f\n",
        "aa11f34819189ecd83315dc3c847f8cd+90",
        "b2af6a23c3be4220181f001229885019+81",
    ),
    5: (
        f". {A} {B} 0:10:b.txt 10:10:a.txt\n",
        f". {B} {A} 0:10:a.txt 10:10:b.txt\n",
        "34e66edfc5c9634b42f99df31d4e4e7e+97",
        "89fac257d03fd4dacf06091ef1baaf5c+97",
    ),
    6: (f". {A} {B} 5:10:x\n", SAME, "eac54740acebd53d8eebb9438655d6e3+81", SAME),
    7: (
        f". {A} {B} 10:10:x 0:10:x\n",
        f". {B} {A} 0:20:x\n",
        "197d1805aadce8074bdaa7445e2a76ff+89",
        "581725e0c3e77680054d1a855f899403+81",
    ),
    8: (f". {A} 0:10:x 5:5:x 0:3:x\n", SAME, "ddcfa3fd5e867e310db1d4785d684f61+57", SAME),
    9: (
        f". {A} {B} {C} 10:10:x\n",
        f". {B} 0:10:x\n",
        "e0150c76eb3d65c2e85f7e9f879a40da+117",
        "107e836ce4653feee6dd2b0dfab887cf+45",
    ),
    10: (
        f". {A} 0:10:x 3:0:x 0:2:x\n",
        f". {A} 0:10:x 0:2:x\n",
        "aa3797934b8e653772669bfcb09248c9+57",
        "70deda87c5a44dfc2143883d40491867+51",
    ),
    11: (
        f". {A} 0:3:foo/bar 3:7:foo/baz/qux\n",
        f"./foo {A} 0:3:bar\n./foo/baz {A} 3:7:qux\n",
        "e67af20e73427759e46dc772afd38d38+66",
        "9dc7a62b249843ac1a016c2b9c35de6d+104",
    ),
    12: (
        f". {A} 0:3:foo/bar\n./foo {B} 0:3:bar\n",
        f"./foo {A} {B} 0:3:bar 10:3:bar\n",
        "7d2ad3a9bd7605ddd4e0055fbbe87281+100",
        "1b9be1885ffe437cf6e8dcb09af0a245+95",
    ),
    13: (f"./foo {Z} 0:0:\\056\n", SAME, "9111a0bddd9377f3598e9b4411d68bb8+50", SAME),
    14: (
        f"./foo {Z} 0:0:.\n",
        f"./foo {Z} 0:0:\\056\n",
        "f871720db105748e0ce6fea780338989+47",
        "9111a0bddd9377f3598e9b4411d68bb8+50",
    ),
    15: (
        f". {Z} 0:0:foo/\\056\n",
        f"./foo {Z} 0:0:\\056\n",
        "d9513e853acebd4379ba56c561d51224+50",
        "9111a0bddd9377f3598e9b4411d68bb8+50",
    ),
    16: (f". {Z} 0:0:\\056\n", "", "9af22896a69241c4226db896639fbefc+46", EMPTY),
    17: (
        f"./foo {A} 0:0:\\056 0:10:f\n",
        f"./foo {A} 0:10:f\n",
        "aa58c89d25876198351c25a30956bb18+58",
        "63473c659115663cb9aca27a7c0b0ce1+49",
    ),
    18: (
        f"./a\\040b\\040c {A} 0:10:x\\040y\\072z\\134w\\011t\n",
        SAME,
        "ca3561623eefeb410c0a2f3fa89dc63c+77",
        SAME,
    ),
    19: (
        f". {A} 0:10:a:b\n",
        f". {A} 0:10:a\\072b\n",
        "28de44ec2b991c24dfa3d311e0d6011b+47",
        "e758b86de580ffe9ed756790d649a3bf+50",
    ),
    20: (f". {A} 0:10:café\n", SAME, "bfca74d193287b91bd8139b4973a5fa9+49", SAME),
    21: (
        f". {A} {A} 0:20:x\n",
        f". {A} 0:10:x 0:10:x\n",
        "21f7e34d91c45c8910f4ed01bb57e20a+81",
        "0f5ea148eafdd94b33bd0dba1077004c+52",
    ),
    22: (
        f". {A} {B} {A} 0:30:x\n",
        f". {A} {B} 0:20:x 0:10:x\n",
        "7e72b468a4d826c4b4d5a4070c65709d+117",
        "257269e86cfc316f92d9da7a19a5c6da+88",
    ),
    23: (
        f"./b {A} 0:10:x\n./a {A} 0:10:x\n. {A} 0:10:x\n./a-b {A} 0:10:x\n./a/c {A} 0:10:x\n",
        f". {A} 0:10:x\n./a {A} 0:10:x\n./a/c {A} 0:10:x\n./a-b {A} 0:10:x\n./b {A} 0:10:x\n",
        "0a1738d51744642df977b3e54139666f+237",
        "42f3194303f8a0b0799cdf9311be17d6+237",
    ),
    24: (
        f". {A} 0:1:b 1:1:B 2:1:_ 3:1:é 4:1:a10 5:1:a9\n",
        f". {A} 1:1:B 2:1:_ 4:1:a10 5:1:a9 0:1:b 3:1:é\n",
        "2f1378e4904d7ffc41a69484cd1cc3d0+78",
        "157cf9284337465bbb554bd8a3845725+78",
    ),
    25: (f". {A}{SIGNED} 0:10:x\n", SAME, "c55208932998ef3d47c672f3b01e42db+45", SAME),
    26: (f". {A}+K@zzzzz{SIGNED} 0:10:x\n", SAME, "c55208932998ef3d47c672f3b01e42db+45", SAME),
    # 27 is the one whose normal form depends on stripping first: test_two_signatures_of_one_block
    28: (
        f". {A} 5:10:x\n",
        f". {A} 5:5:x\n",
        "1b54038c39369aa76e7044b50565aae9+45",
        "b7dbb0c713e41b45e0b086c894a77019+44",
    ),
    29: (
        f". {A} 0:10:a\\400b\n",
        f". {A} 0:10:a\\134400b\n",
        "2a567963e8d2da19250ba14886775424+50",
        "b00225fc25418de8e4b2e33c01dab7c4+53",
    ),
    30: (
        f". {A} 0:10:caf\\303\\251\n",
        f". {A} 0:10:café\n",
        "6f749c2aee63b6c4406d1fd466771812+55",
        "bfca74d193287b91bd8139b4973a5fa9+49",
    ),
    31: (
        ". 3858f62230ac3c915f300c664312c63f+6 0:3:foo.txt 3:3:bar.txt\n"
        "./baz 73feffa4b7f6bb68e44cf984c85f6e88+3 0:3:baz.txt\n",
        ". 3858f62230ac3c915f300c664312c63f+6 3:3:bar.txt 0:3:foo.txt\n"
        "./baz 73feffa4b7f6bb68e44cf984c85f6e88+3 0:3:baz.txt\n",
        "23ca013983d6239e98931cc779e68426+114",
        "d6c3b8e571f1b81ebb150a45ed06c884+114",
    ),
}

REFUSED_ON_SAVING = {28, 29}


@pytest.mark.parametrize("number", VECTORS)
def test_normal_form_and_hashes(number: int) -> None:
    given, normal, hash_given, hash_normal = VECTORS[number]
    text = given.encode()
    expected = text if normal is None else normal.encode()
    assert normalize(text) == expected
    assert normalize(expected) == expected
    assert pdh(text) == hash_given
    assert pdh(expected) == (hash_normal or hash_given)


@pytest.mark.parametrize("number", VECTORS)
def test_listings_of_the_text_and_of_its_normal_form_agree(number: int) -> None:
    given, normal, _, _ = VECTORS[number]
    text = given.encode()
    manifest, normalized = Manifest(text), Manifest((given if normal is None else normal).encode())
    assert normalized.is_normalized
    assert normalize(bytes(manifest.subtree(()))) == bytes(normalized.subtree(()))
    assert _content(manifest) == _content(normalized)
    assert manifest.totals() == normalized.totals()


@pytest.mark.parametrize("number", VECTORS)
def test_what_may_be_saved(number: int) -> None:
    text = VECTORS[number][0].encode()
    if number in REFUSED_ON_SAVING:
        with pytest.raises(InvalidManifest, match="line 1: "):
            check_for_save(text)
    else:
        check_for_save(text)
    check_for_save(normalize(text))


def test_two_signatures_of_one_block() -> None:  # vector 27
    text = f". {A}{SIGNED} {A}{SIGNED_AGAIN} 0:20:x\n".encode()
    assert pdh(text) == "21f7e34d91c45c8910f4ed01bb57e20a+81"
    assert normalize(text) == text
    assert strip(text) == f". {A} {A} 0:20:x\n".encode()
    stripped = normalize(text, strip=True)
    assert stripped == f". {A} 0:10:x 0:10:x\n".encode()
    assert pdh(stripped) == "0f5ea148eafdd94b33bd0dba1077004c+52"


def test_names_of_vector_18() -> None:
    manifest = Manifest(VECTORS[18][0].encode())
    assert list(manifest.listing(()).dirs) == [b"a b c"]
    assert list(manifest.listing((b"a b c",)).files) == [b"x y:z\\w\tt"]


LENIENT = [
    ("no final line feed", f". {A} 0:10:f", f". {A} 0:10:f\n"),
    ("repeated spaces", f".  {A}   0:5:f  5:5:g\n", f". {A} 0:5:f 5:5:g\n"),
    ("trailing space", f". {A} 0:5:f \n", f". {A} 0:5:f\n"),
    ("partly past the end", f". {A} 8:10:f\n", f". {A} 8:2:f\n"),
    ("entirely past the end", f". {A} 10:10:f 99:1:g\n", f". {Z} 0:0:f 0:0:g\n"),
    ("leading zeros", f". {A} 0003:007:f\n", f". {A} 3:7:f\n"),
    ("huge position, no size", f". {A} 99999999999999999999:0:f 0:1:f\n", f". {A} 0:1:f\n"),
    ("zero-length beside others", f". {A} 0:0:f 0:3:f 9:0:f\n", f". {A} 0:3:f\n"),
    ("unused blocks", f". {B} {A} {C} 12:3:f\n", f". {A} 2:3:f\n"),
    ("stream without ./", f"foo {A} 0:10:f\n", f"./foo {A} 0:10:f\n"),
    (".. in a stream", f"./.. {A} 0:10:f\n", f"./.. {A} 0:10:f\n"),
    (".. in a file", f". {A} 0:10:../f\n", f"./.. {A} 0:10:f\n"),
    ("two backslashes", f". {A} 0:10:a\\\\b\n", f". {A} 0:10:a\\134b\n"),
]

FINE_TO_SAVE = {"huge position, no size", "leading zeros", "zero-length beside others", "unused blocks"}


@pytest.mark.parametrize(("what", "given", "normal"), LENIENT, ids=[row[0] for row in LENIENT])
def test_lenient_input_is_read_but_not_saved(what: str, given: str, normal: str) -> None:
    assert normalize(given.encode()) == normal.encode()
    assert _content(Manifest(given.encode())) == _content(Manifest(normal.encode()))
    if what in FINE_TO_SAVE - {"huge position, no size"}:
        check_for_save(given.encode())
    else:
        with pytest.raises(InvalidManifest):
            check_for_save(given.encode())


BAD = [
    ("blank line", f". {A} 0:10:f\n\n./b {A} 0:10:f\n", "line 2: blank line"),
    ("tab", f".\t{A}\t0:10:f\n", "line 1: .*control character"),
    ("tab in a name", f". {A} 0:10:a\tb\n", "line 1: .*control character"),
    ("carriage return", f". {A} 0:10:f\r\n", "line 1: .*control character"),
    ("upper-case digest", f". {A.upper()} 0:10:f\n", "line 1: no block locator"),
    ("no size", f". {A[:32]} 0:10:f\n", "line 1: no block locator"),
    ("no locator", ". 0:10:f\n", "line 1: no block locator"),
    ("no file token", f". {A}\n", "line 1: no file token"),
    ("nothing but a name", ".\n", "line 1: no block locator"),
    ("bad later line", f". {A} 0:10:f\n./b {A} 0:10:f 1:x:y\n", "line 2: neither a block locator nor a file token"),
    ("locator behind files", f". {A} 0:10:f {B}\n", "line 1: neither a block locator nor a file token"),
    ("stream from the root", f"/foo {A} 0:10:f\n", "line 1: bad stream name"),
    ("stream with an empty part", f"./a//b {A} 0:10:f\n", "line 1: bad stream name"),
    ("stream with a dot", f"./a/./b {A} 0:10:f\n", "line 1: bad stream name"),
    ("file from the root", f". {A} 0:10:/x\n", "line 1: bad file name"),
    ("file with an empty part", f". {A} 0:10:a//x\n", "line 1: bad file name"),
    ("file that ends with /", f". {A} 0:10:a/\n", "line 1: bad file name"),
    ("file with a dot", f". {A} 0:10:./x\n", "line 1: bad file name"),
    ("file called dot", f". {A} 0:3:.\n", "line 1: a file named '.'"),
    ("file and directory", f". {A} 0:10:b\n./b {A} 0:10:f\n", "line 2: 'b' is a file and a directory"),
    ("file and directory above", f". {A} 0:10:b\n./b/c/d {A} 0:10:f\n", "line 2: 'b' is a file and a directory"),
    ("file and directory by /", f". {A} 0:1:b 0:1:b/c\n", "line 1: 'b' is a file and a directory"),
    ("leading space", f" . {A} 0:10:f\n", "line 1: it begins with a space"),
    ("too many digits", f". {A} {'9' * 5000}:0:f\n", "line 1: .*too many digits"),
    ("text", "hello\n", "line 1: no block locator"),
]


@pytest.mark.parametrize(("what", "text", "message"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_refused_everywhere(what: str, text: str, message: str) -> None:
    with pytest.raises(InvalidManifest, match=message):
        normalize(text.encode())
    with pytest.raises(InvalidManifest):
        Manifest(text.encode()).totals()
    with pytest.raises(InvalidManifest, match=r"line \d: "):
        check_for_save(text.encode())


# segments of a file after the write, and what the line says
FOO = C
LONG = ("a5de24f4417cfba9d5825eadc2f4ca49+67108000", "598cc1a4ccaef8ab6e4724d87e675d78+32892000")
BIG = ("48dd23ea1645fd47d789804d71b5bb8e+67108864", "77c57dc6ac5a10bb2205caaa73187994+32891126")
MIDDLE = "7ac66c0f148de9519b8bd264312c4d64+7"
FOOBAR = "3858f62230ac3c915f300c664312c63f+6"
WRITES = [
    ("foo at 0", [(3, FOO, 0), (7, A, 3)], f"{FOO} {A} 0:3 6:7"),
    ("foo at 3", [(3, A, 0), (3, FOO, 0), (4, A, 6)], f"{A} {FOO} 0:3 10:3 6:4"),
    ("foo at 7", [(7, A, 0), (3, FOO, 0)], f"{A} {FOO} 0:7 10:3"),
    ("foobar at 7", [(7, A, 0), (6, FOOBAR, 0), (7, A, 3)], f"{A} {FOOBAR} 0:7 10:6 3:7"),
    ("abcdefg at 2", [(2, A, 0), (7, MIDDLE, 0), (3, A, 1)], f"{A} {MIDDLE} 0:2 10:7 1:3"),
    ("many appends", [(67108000, LONG[0], 0), (32892000, LONG[1], 0)], f"{LONG[0]} {LONG[1]} 0:100000000"),
    ("one big write", [(10, A, 0), (67108864, BIG[0], 0), (32891126, BIG[1], 0)], f"{A} {BIG[0]} {BIG[1]} 0:100000000"),
    ("seek 2, write", [(2, HOLE, 0), (10, A, 0)], f"{ZERO} {A} 0:2 67108864:10"),
    (
        "seek 2*64Mi+2, write",
        [(2 * 67108864 + 2, HOLE, 0), (10, A, 0)],
        f"{ZERO} {A} 0:67108864 0:67108864 0:2 67108864:10",
    ),
    ("truncate(8)", [(8, A, 0)], f"{A} 0:8"),
    ("truncate(12)", [(10, A, 0), (2, HOLE, 0)], f"{A} {ZERO} 0:12"),
    ("ten times the same", [(10, A, 0)], f"{A} 0:10"),
]


@pytest.mark.parametrize(("what", "segments", "tokens"), WRITES, ids=[row[0] for row in WRITES])
def test_what_a_write_leaves_in_the_line(what: str, segments: list, tokens: str) -> None:
    words = [word + ":count.txt" if ":" in word else word for word in tokens.split()]
    line = render_line((), [(b"count.txt", segments)], ZERO)
    assert line == (". " + " ".join(words) + "\n").encode()
    check_for_save(line)
    assert Manifest(line).listing(()).files[b"count.txt"].segments() == segments


def _content(manifest: Manifest, path: tuple[bytes, ...] = ()) -> dict[bytes, object]:
    listing = manifest.listing(path)
    tree: dict[bytes, object] = {name: spec.raw_segments() for name, spec in listing.files.items()}
    tree.update((name, _content(manifest, (*path, name))) for name in listing.dirs)
    return tree
