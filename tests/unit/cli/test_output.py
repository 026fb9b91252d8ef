"""Data on standard output, all else on standard error; progress only where somebody sees it."""

from __future__ import annotations

import io
import json

from arvfuse.cli.output import Progress, complain, print_bytes, print_json, show_size


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_complaints_are_one_line_on_standard_error(capsys):
    complain("what: why\nreally; do")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "arvfuse: what: why really; do\n")


def test_json_has_the_number_of_its_schema(capsys):
    print_json({"name": "caf\udce9"})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "name": "caf\udce9"}


def test_names_that_are_not_utf8_are_printed_as_they_are(capfdbinary):
    print("first")
    print_bytes(b"caf\xe9")
    assert capfdbinary.readouterr().out == b"first\ncaf\xe9\n"


def test_sizes_for_people():
    assert [show_size(size) for size in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip


def test_progress_rewrites_its_line_and_takes_it_away():
    terminal = Terminal()
    progress = Progress(stream=terminal)
    progress.show("half way")
    progress.show("done")
    progress.close()
    progress.close()
    assert terminal.getvalue() == "\rhalf way\rdone    \r    \r"


def test_no_progress_in_a_file_or_with_quiet():
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        progress = Progress(quiet=quiet, stream=stream)
        progress.show("half way")
        progress.close()
        assert stream.getvalue() == ""
