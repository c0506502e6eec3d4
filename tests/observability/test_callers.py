"""How many callers policy has refused, by model."""

from gateway.observability import callers
from gateway.observability.callers import WINDOW_SECONDS, CallersHit


def counts(hit: CallersHit, moment: float) -> dict[str, float]:
    return {labels[0]: value for _, labels, value in hit.samples("r", moment)}


def test_a_caller_counts_once_per_model():
    hit = CallersHit()
    for model, caller in (("m", "a"), ("m", "a"), ("m", "b"), ("n", "a")):
        hit.add(model, caller, 1000.0)
    assert counts(hit, 1001.0) == {"m": 2, "n": 1}


def test_the_window_before_counts_and_what_is_older_does_not():
    hit = CallersHit()
    hit.add("m", "a", 1000.0)
    hit.add("m", "b", 1000.0 + WINDOW_SECONDS)
    assert counts(hit, 1001.0 + WINDOW_SECONDS) == {"m": 2}
    assert counts(hit, 1001.0 + 2 * WINDOW_SECONDS) == {"m": 1}
    assert counts(hit, 1001.0 + 9 * WINDOW_SECONDS) == {}


def test_what_is_told_apart_is_bounded(monkeypatch):
    monkeypatch.setattr(callers, "MAX_CALLERS", 10)
    hit = CallersHit()
    for number in range(1000):
        hit.add("m", str(number), 1000.0)
    assert counts(hit, 1001.0) == {"m": 10}
