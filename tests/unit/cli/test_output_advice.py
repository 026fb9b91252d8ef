"""What to do is part of every line, also where the failure's own text does not say it."""

from __future__ import annotations

import pytest

from arvfuse import errors
from arvfuse.cli.output import ADVICE, line_of


def test_a_text_that_says_what_to_do_is_left_alone():
    assert line_of(errors.Busy("mnt: in use;\n end that")) == "mnt: in use; end that"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.NoSuchRecord("u: no such project"), "u: no such project; `arvfuse collections` lists what there is"),
        (errors.DigestCollision("b: two contents"), "b: two contents; restore it from a copy"),
        (errors.NoSpace("/s", "cannot write: full"), "/s: cannot write: full; make room and try again"),
        (errors.StaleNode("/a"), "/a: Stale file handle; correct that and try again"),
    ],
)
def test_one_that_does_not_gets_the_advice_of_its_nearest_class(error, line):
    assert line_of(error) == line


def test_every_advice_is_a_phrase_for_a_class_of_ours():
    for kind, advice in ADVICE.items():
        assert issubclass(kind, errors.ArvfuseError)
        assert ";" not in advice
