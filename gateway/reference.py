"""``python -m gateway.reference``: pages of ``docs/`` that are made from tables, so that they say what the code does.

Given names of pages it writes those alone. ``docs/dialects.md`` is made by ``python -m gateway.dialects``.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PosixPath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.cli.exits import MEANINGS
from gateway.dialects.refusal import REFUSALS, RETRY_AFTER
from gateway.observability.events import EVENTS, REQUEST, Event
from gateway.observability.metrics import LABELS, METRICS, Definition
from gateway.policy.decision import Reason
from gateway.settings import ENV_PREFIX, NOT_SETTINGS, Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
_MADE = "<!-- made by: python -m gateway.reference {} -->\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table; ``|`` in a cell would end it."""
    columns = list(header)
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# ---------------------------------------------------------------------- metrics


def metrics() -> Iterator[str]:
    """``docs/metrics.md``."""
    yield (
        "`GET /metrics` on the admin listener, for Prometheus; one answer for all workers of this machine: each counts "
        "in its own memory, the control process asks them all and adds up, and keeps what a worker that ended had "
        "counted. Nothing is written to files. A worker that hangs costs an answer one second, and its part of it. "
        "Counters begin anew with the control process.\n"
    )
    yield "Dashboards and alerts on these are in [operating.md](operating.md) and [runbooks.md](runbooks.md).\n"
    yield from _table(("metric", "kind", "labels", "what it says"), map(_metric, METRICS))
    yield "\n## Labels\n\nNo label tells people apart, and none is unbounded:\n"
    yield from _table(("label", "its values"), ((f"`{label}`", bound) for label, bound in LABELS.items()))
    yield "\n## Buckets\n\nUpper bounds, in seconds.\n"
    histograms = [definition for definition in METRICS if definition.buckets]
    yield from _table(
        ("histogram", "bounds"), ((f"`{one.name}`", ", ".join(map(str, one.buckets))) for one in histograms)
    )


def _metric(definition: Definition) -> tuple[str, ...]:
    return (f"`{definition.name}`", definition.kind, _code(definition.labels), definition.help)


# ---------------------------------------------------------------------- events


def events() -> Iterator[str]:
    """``docs/events.md``."""
    yield (
        "Two streams, both JSON lines. What changes goes to standard error, by the name of its event. Each request "
        "gets one line on standard output, or in `log.file`. A change of state is logged once, not each failed call. "
        "No line holds a key, a token, a prompt or a nationality.\n"
    )
    yield "## Requests\n"
    yield from _table(("field", "what it says"), ((f"`{name}`", meaning) for name, meaning in REQUEST.items()))
    yield (
        "\nWhat could not even be read as a request has those up to `revision`, and `decision`, `reason`, `status`.\n"
    )
    yield "## Events\n\nEach also has `level` and `timestamp`; debug events are not written.\n"
    for part in dict.fromkeys(event.part for event in EVENTS):
        yield f"### {part}\n"
        yield from _table(("event", "level", "fields", "what it says"), map(_event, _of(part)))
        yield ""


def _of(part: str) -> list[Event]:
    return [event for event in EVENTS if event.part == part]


def _event(event: Event) -> tuple[str, ...]:
    return (f"`{event.name}`", event.level, _code((*event.bound, *event.fields)), event.meaning)


# ---------------------------------------------------------------------- reasons and exit codes


def reasons() -> Iterator[str]:
    """``docs/reasons.md``."""
    yield (
        "Why a request is refused: `portcullis.reason` in the answer, the header `Portcullis-Reason`, `reason` in the "
        "request log and in metrics. Where a restriction has an order behind it the status is the second one.\n"
    )
    rows = ((reason, REFUSALS[reason]) for reason in Reason)
    yield from _table(
        ("reason", "status", "under an order", "may be tried again", "message, where the operator gave none"),
        (
            (f"`{reason}`", str(form.status), str(form.under_order), "yes" if form.retry else "no", form.message)
            for reason, form in rows
        ),
    )
    yield (
        f"\n`malformed` is 413, 415, 417, 426 or 431 where one of these says it better. A 503 has `Retry-After: "
        f"{RETRY_AFTER}`. `x-should-retry` says to the SDKs what the fourth column says.\n"
    )
    yield "## Exit codes\n\nOf every `portcullis` command.\n"
    yield from _table(("code", "meaning"), ((str(int(code)), meaning) for code, meaning in MEANINGS.items()))


# ---------------------------------------------------------------------- settings


def settings() -> Iterator[str]:
    """``docs/settings.md``."""
    yield (
        "A TOML file (`--config`, else `PORTCULLIS_CONFIG`, else `config/portcullis.toml` where there is one), "
        f"overridden by variables that begin with `{ENV_PREFIX}`, with `__` between levels: `proxy.listen` is "
        f"`{ENV_PREFIX}PROXY__LISTEN`. What is unknown or cannot be used stops the start, and is named. "
        f"{_code(sorted(NOT_SETTINGS))} are no settings.\n"
    )
    yield from _section("", Settings)


def _section(place: str, model: type[BaseModel]) -> Iterator[str]:
    """A table of the file, then those within it."""
    inner = []
    rows = []
    for name, field in model.model_fields.items():
        below, suffix = _model_in(field.annotation)
        if below is not None:
            inner.append((f"{place}{name}{suffix}.", below))
        else:
            rows.append((f"`{place}{name}`", _type(field), _default(field), field.description or ""))
    yield f"## {_title(place)}\n\n{_first_lines(model)}\n"
    if rows:
        yield from _table(("setting", "type", "default", "what it does"), rows)
    yield ""
    for below_place, below in inner:
        yield from _section(below_place, below)


def _title(place: str) -> str:
    return f"`[{place.rstrip('.')}]`" if place else "Top level"


def _first_lines(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").replace("``", "`").split())


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The table that a field holds, and what is written after its name: ``.<name>`` for each of several."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    if origin is dict:
        return inside[1], ".<name>"
    if origin is tuple and _model_in(inside[0])[0]:
        return inside[0], "[]"
    if origin in (UnionType, Union):
        found = [_model_in(one)[0] for one in inside]
        return next(filter(None, found), None), ""
    return None, ""


_TYPES: dict[Any, str] = {str: "text", int: "number", float: "number", bool: "true or false", Path: "path"}


def _type(field: FieldInfo) -> str:
    return _name(field.annotation)


def _name(annotation: Any) -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation is SecretStr:
        return "secret"
    if origin is Annotated:
        return _name(inside[0])
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in inside)
    if origin is tuple:
        return f"list of {_name(inside[0])}"
    if origin in (UnionType, Union):
        return " or ".join(_name(one) for one in inside if one is not NoneType)
    return _TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`{list(value)}`".replace("'", '"')
        case str() | PosixPath():
            return f'`"{value}"`'
        case _:
            return f"`{value}`"


# ---------------------------------------------------------------------- the pages

Page = tuple[str, Callable[[], Iterator[str]]]
PAGES: dict[str, Page] = {
    "metrics": ("Metrics", metrics),
    "events": ("Logs", events),
    "reasons": ("Reasons and exit codes", reasons),
    "settings": ("Settings", settings),
}


def page(name: str) -> str:
    """A page's text."""
    title, lines = PAGES[name]
    return f"# {title}\n\n{_MADE.format(name)}\n" + "\n".join(lines()).rstrip() + "\n"


def main() -> None:
    """Write the pages that the arguments name, or all."""
    for name in sys.argv[1:] or PAGES:
        (DOCS / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main()
