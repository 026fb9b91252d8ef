"""What a commit tells, on its way through a message."""

from __future__ import annotations

import json

from arvfuse.sdk.outcome import Outcome


def test_an_outcome_goes_through_a_message() -> None:
    outcome = Outcome(
        tree=3, seq=17, uuid="u", version=4, pdh="p", ours_pdh="o", moved="17-3",
        effects=(["put", ["a"], []],), quarantined="kept",
    )  # fmt: skip
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_what_only_means_something_in_one_process_stays_behind() -> None:
    outcome = Outcome(tree=3, seq=17, error="no room", text=b". text", cause=OSError())
    assert {"text", "cause"}.isdisjoint(outcome.to_json())
    again = Outcome.from_json(outcome.to_json())
    assert again == outcome._replace(text=b"", cause=None)
    assert "text" not in repr(outcome)
