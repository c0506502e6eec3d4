"""Whatever is logged anywhere is in the table of events, and nothing else is."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.observability.events import EVENTS, REQUEST, Event

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in (ROOT / "gateway").rglob("*.py")}

COMPUTED: dict[tuple[str, str], dict[str, set[str]]] = {
    ("gateway/enforcement/agent.py", "_tell"): {
        "serving": {"revision"}, "fenced": {"error"}, "redis_unreachable": {"error"}, "policy_unusable": {"error"},
    },
    ("gateway/enforcement/audit.py", "_tell"): {"policy_gone": {"error"}, "policy_forged": {"error"}},
    ("gateway/enforcement/roll.py", "_doubt"): {
        "ack_forged": {"replica", "effect"}, "replica_struck_off": {"replica", "effect"},
    },
    ("gateway/identity/jwks.py", "_tell"): {
        "issuer_keys": {"keys"}, "issuer_keys_unavailable": {"error", "kept"},
    },
    ("gateway/control/drills.py", "_run"): {
        "drill_passed": {"drill", "by", "model", "failure"}, "drill_failed": {"drill", "by", "model", "failure"},
    },
    ("gateway/control/scheduler.py", "_commit"): {
        "window_begins": {"subject", "revision"}, "window_ends": {"subject", "revision"},
        "attestation_ends": {"subject", "revision"},
    },
}  # fmt: skip
"""Functions that log an event by a name that they compute: which events these are, and their fields."""

SPREAD = {"worker_died": {"worker", "returncode"}, "worker_crash_loop": {"worker", "returncode"}}
"""Fields that are passed as a mapping."""


@dataclass
class Found:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def functions(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Every call, and the function it stands in."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else name
        if isinstance(node, ast.Call):
            yield inside, node
        yield from functions(node, inside)


def is_logger(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    return bool(re.search(r"\b_log$|\.get_logger\(", ast.unparse(call.func.value)))


def logged() -> tuple[dict[str, Found], set[tuple[str, str]]]:
    """Events that are named where they are logged; functions that compute a name, or choose the method."""
    found: dict[str, Found] = defaultdict(Found)
    computing = set()
    for path, tree in TREES.items():
        for function, call in functions(tree):
            if is_logger(call):
                if isinstance(call.args[0], ast.Constant):
                    event = found[call.args[0].value]
                    event.levels.add(call.func.attr)
                    event.fields |= {"exception" if word.arg == "exc_info" else word.arg for word in call.keywords}
                else:
                    computing.add((path, function))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            if re.search(r"= (self\.)?_log\.\w+ if ", ast.unparse(function)):
                computing.add((path, function.name))
    return found, computing


FOUND, COMPUTING = logged()
BY_NAME: dict[str, list[Event]] = defaultdict(list)
for _event in EVENTS:
    BY_NAME[_event.name].append(_event)


def test_every_event_that_is_logged_is_in_the_table_and_the_other_way_round():
    computed = {name for events in COMPUTED.values() for name in events}
    assert FOUND.keys() | computed == BY_NAME.keys()


def test_names_are_computed_only_where_it_is_known_which():
    assert COMPUTED.keys() == COMPUTING
    for (path, _), events in COMPUTED.items():
        text = (ROOT / path).read_text()
        for name in events:
            assert f'"{name}"' in text or 'f"drill_{' in text, name


@pytest.mark.parametrize("name", sorted(FOUND))
def test_an_event_has_the_level_and_the_fields_that_the_table_says(name):
    fields = FOUND[name].fields - {None} | SPREAD.get(name, set())
    said = [event for event in BY_NAME[name] if event.level in FOUND[name].levels and fields == {*event.fields}]
    assert said, (FOUND[name], BY_NAME[name])


@pytest.mark.parametrize(("name", "fields"), [pair for events in COMPUTED.values() for pair in events.items()])
def test_an_event_with_a_computed_name_has_the_fields_that_the_table_says(name, fields):
    assert fields in [{*event.fields} for event in BY_NAME[name]]


def test_an_event_is_told_once_per_part():
    pairs = [(event.part, event.name) for event in EVENTS]
    assert len(pairs) == len(set(pairs))


def test_nothing_is_logged_by_other_means():
    users = {
        path
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(alias.name == "logging" for alias in node.names)
    }
    assert users == {
        "gateway/observability/logs.py",  # for the level's number alone
        "gateway/observability/tracing.py",  # to silence a library
    }


def test_the_request_line_has_the_fields_of_the_table():
    tree = TREES["gateway/proxy/recorder.py"]
    keys = {
        node.value
        for parent in ast.walk(tree)
        for node in (
            parent.keys if isinstance(parent, ast.Dict) else [parent.slice] if isinstance(parent, ast.Subscript) else []
        )
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert keys == REQUEST.keys()
