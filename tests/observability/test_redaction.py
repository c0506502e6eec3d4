"""The search for secrets in scenarios' logs finds them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))
from redaction import KEY, TOKEN, check

REQUEST = {"event": "request", "time": 1.0, "caller": "c-1", "status": 200, "model": "gpt-5.4"}
CHANGED = {"event": "policy_changed", "level": "info", "actor": "demo-operator", "subject": "callers/demo-alice"}


def log(tmp_path: Path, line) -> Path:
    file = tmp_path / "gateway.log"
    file.write_text((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return file


@pytest.mark.parametrize("line", [REQUEST, CHANGED, "Traceback (most recent call last):", REQUEST | {"model": "CN-1"}])
def test_what_may_be_in_a_log_passes(tmp_path, line):
    check(log(tmp_path, line))
    check(tmp_path / "there-is-none")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (REQUEST | {"caller": "demo-alice"}, "a caller's key"),
        (REQUEST | {"model": KEY}, "a secret"),
        (REQUEST | {"model": TOKEN}, "a secret"),
        (REQUEST | {"model": "Tell me a story."}, "a secret"),
        (REQUEST | {"org": "CN"}, "a country"),
        (REQUEST | {"nationality": "x"}, "fields that the table has not"),
        (CHANGED | {"order": "input_value='IR'"}, "a country"),
        (CHANGED | {"event": "something"}, "no event of the table"),
        (f"Traceback: {KEY}", "a secret"),
        ("ValueError: sim-key", "a secret"),
    ],
)
def test_what_must_not_be_in_a_log_is_found(tmp_path, line, found):
    with pytest.raises(AssertionError, match=found):
        check(log(tmp_path, line))
