"""A mounted test on a machine that cannot mount fails with the reason."""

from __future__ import annotations

import pytest

from tests.support import mounts

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("problem", [None, "/dev/fuse cannot be opened: Permission denied"])
def test_without_fuse_a_mounted_test_fails_and_is_not_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, problem: str | None
) -> None:
    monkeypatch.setattr(mounts, "fuse_problem", lambda: problem)
    pytester.makeconftest("from tests.conftest import pytest_runtest_setup")
    pytester.makeini("[pytest]\nmarkers = mounted")
    pytester.makepyfile("import pytest\n@pytest.mark.mounted\ndef test_it(): pass\ndef test_other(): pass")
    result = pytester.runpytest_inprocess()
    if problem is None:
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines([f"*needs a mount: {problem}"])
