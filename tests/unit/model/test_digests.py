"""md5 and BLAKE2b as names."""

from __future__ import annotations

import hashlib

from arvfuse.model.digests import blake2b, md5


def test_md5_of_what_is_given_and_of_what_follows():
    assert md5().hexdigest() == "d41d8cd98f00b204e9800998ecf8427e"  # RFC 1321, A.5
    assert md5(memoryview(b"abc")).hexdigest() == "900150983cd24fb0d6963f7d28e17f72"
    begun = md5(b"a")
    begun.update(b"bc")
    assert begun.digest() == md5(b"abc").digest()


def test_blake2b_has_as_many_bytes_as_asked_for():
    assert blake2b(b"abc", 16) == hashlib.blake2b(b"abc", digest_size=16).digest()
    assert len(blake2b(b"", 32)) == 32
