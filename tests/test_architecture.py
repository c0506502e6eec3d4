"""The house's rules, read from its source: who may import whom, and what nobody may do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "gateway").rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}

MAY_IMPORT = {
    "policy": {"policy"},
    "dialects": {"dialects", "policy"},
    "identity": {"identity", "policy", "tasks"},
    "observability": {"observability"},
    "settings": set(),
    "tls": {"settings", "observability.metrics"},
    "tasks": {"errors"},
    "errors": set(),
    "channel": {"tasks"},
    "enforcement": {"enforcement", "policy", "identity", "observability.metrics", "settings", "tasks", "errors"},
    "embedded": {"enforcement.connection"},
    "supervisor": {"supervisor", "channel", "observability.census", "observability.metrics", "settings", "tasks"},
    "simulator": {"simulator"},
    "doctor": {"doctor", "enforcement", "settings", "tls"},
}
"""What a part may import of the gateway, and nothing else; the gateway's own version is everybody's."""

MUST_NOT_IMPORT = {
    "proxy": {"control", "cli", "simulator", "supervisor", "serve", "embedded"},
    "control": {"proxy", "cli", "serve", "supervisor", "simulator", "console"},
    "console": {"proxy", "cli", "serve", "supervisor", "simulator"},
}
"""What the two rims keep clear of: the data plane of whatever manages it, and the other way round."""

CATCHES_EVERYTHING = {
    "gateway/proxy/connection.py": "the rim of the data plane: it closes the door and counts",
    "gateway/control/middleware.py": "the rim of the admin API: it answers 500, and logs the cause",
}

CREATES_TASKS = {"gateway/tasks.py": "it keeps the reference and logs the death"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of the gateway that a file imports, without the prefix; in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            base = node.module or ""
            names = [f"{base}.{alias.name}" if _is_package(base) else base for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("gateway.") for name in names if name.startswith("gateway."))


def _is_package(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] == "gateway" and (ROOT / module.replace(".", "/")).is_dir()


def within(module: str, parts: set[str]) -> bool:
    return any(module == part or module.startswith(f"{part}.") for part in parts)


def files_of(part: str) -> list[str]:
    return [name for name in TREES if name == f"gateway/{part}.py" or name.startswith(f"gateway/{part}/")]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import gateway.control.app", ["control.app"]),
        ("from gateway.control.app import build", ["control.app"]),
        ("from gateway import tasks", ["tasks"]),
        ("from gateway.enforcement import lease, scripts", ["enforcement.lease", "enforcement.scripts"]),
        ("def f():\n    from gateway.proxy import gate", ["proxy.gate"]),
        ("if TYPE_CHECKING:\n    from gateway.proxy.gate import Gate", ["proxy.gate"]),
        ("import json, gatewayish", []),
    ],
)
def test_the_reader_of_imports_sees_them_all(source, found):
    assert list(imports(ast.parse(source))) == found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_what_lies_further_inside(part):
    assert files_of(part), "the rule is about something that exists"
    allowed = MAY_IMPORT[part] | {"__version__"}
    strays = {
        (name, module) for name in files_of(part) for module in imports(TREES[name]) if not within(module, allowed)
    }
    assert strays == set()


@pytest.mark.parametrize("part", MUST_NOT_IMPORT)
def test_the_rims_do_not_know_each_other(part):
    assert files_of(part)
    strays = {
        (name, module)
        for name in files_of(part)
        for module in imports(TREES[name])
        if within(module, MUST_NOT_IMPORT[part])
    }
    assert strays == set()


def test_the_policy_is_pure():
    impure = {"asyncio", "time", "random", "secrets", "redis", "structlog", "logging", "socket", "os", "threading"}
    for name in files_of("policy"):
        for node in ast.walk(TREES[name]):
            assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith), name
            if isinstance(node, ast.Import):
                assert not impure & {alias.name.split(".")[0] for alias in node.names}, name
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in impure, name
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"now", "utcnow", "today"}, f"{name}:{node.lineno} reads a clock"


def test_tasks_are_created_in_one_place():
    creators = {
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if name not in CREATES_TASKS
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in {"create_task", "ensure_future", "TaskGroup"}
    }
    assert creators == set()


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"} for kind in caught)


def test_everything_is_caught_only_at_the_outermost_rims():
    rims = [
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node)
    ]
    assert sorted(rims) == sorted(CATCHES_EVERYTHING), "once each, and nowhere else"


def test_nothing_suppresses_everything():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "suppress":
                kinds = {kind.id for kind in node.args if isinstance(kind, ast.Name)}
                assert not kinds & {"Exception", "BaseException"}, f"{name}:{node.lineno}"


def _undocumented(node: ast.AST, where: str) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield where
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            if isinstance(child, ast.ClassDef):
                yield from _undocumented(child, f"{where}:{child.name}")
            elif not ast.get_docstring(child) and not _is_overload(child):
                yield f"{where}:{child.name}"


def _is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id in {"override", "overload"} for mark in function.decorator_list)


def test_whatever_is_public_says_what_it_is():
    assert [name for path, tree in TREES.items() for name in _undocumented(tree, path)] == []


def test_no_module_changes_globals_from_within():
    assert [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
    ] == []


HARMLESS = {"len", "find", "rfind", "start", "end", "min", "max", "index"}
"""Calls that may be made twice."""


def test_what_has_an_effect_stands_in_no_slice():
    """Compiled by mypyc, ``rest[write(rest):]`` writes twice where ``rest`` is no builtin sequence (mypyc 2.4)."""
    found = {
        f"{place}:{call.lineno}"
        for place, tree in TREES.items()
        for bounds in ast.walk(tree)
        if isinstance(bounds, ast.Slice) and "simulator" not in place
        for call in ast.walk(bounds)
        if isinstance(call, ast.Call) and _called(call) not in HARMLESS
    }
    assert not found


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_every_part_is_on_the_map():
    import gateway

    parts = {
        path.stem for path in (ROOT / "gateway").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    for part in parts - {"__init__"}:
        assert part in (gateway.__doc__ or ""), f"gateway/__init__.py does not mention {part}"


def test_names_of_test_files_are_unique():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
