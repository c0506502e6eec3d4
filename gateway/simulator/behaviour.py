"""How one answer is given, told by `X-Sim-…` headers, by `POST /_sim/defaults` or by the configuration.

Each option is one row of `OPTIONS`: header, limits and meaning. Nonsense is refused, never guessed at.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from multidict import CIMultiDictProxy

TAG_HEADER = "X-Sim-Tag"
_TAG = re.compile(r"[\x21-\x7e]{1,200}")
_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_INTEGER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class BadOptionError(ValueError):
    """An option's value is not of its kind or outside its limits; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How one answer is given. Seconds are floats, sizes are characters, counts are text deltas.

    `events=None` means: as many deltas as the natural text has words (about sixty). `tool` is the name of the
    tool to call, or "1" for the first one that the request offers.
    """

    events: int | None = None
    interval: float = 0.0
    first_byte: float = 0.0
    event_bytes: int = 0
    status: int | None = None
    retry_after: int | None = None
    truncate: int | None = None
    split: bool = False
    stall: int | None = None
    tool: str | None = None

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value = getattr(self, option.name)
            if value is not None:
                option.check(value)
        if self.truncate is not None and self.stall is not None:
            raise BadOptionError("truncate and stall exclude each other")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table: `read` turns header text into a value, `check` raises BadOptionError."""

    name: str
    header: str
    read: Callable[[str], Any]
    check: Callable[[Any], None]
    meaning: str


def _read_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise BadOptionError(f"{text[:40]!r} is not a whole number of at most nine digits")
    return int(text)


def _read_seconds(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise BadOptionError(f"{text[:40]!r} is not a plain decimal number of seconds")
    return float(text)


def _read_flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise BadOptionError(f"{text[:40]!r} is not one of 1, 0, true, false")
    return _FLAGS[text.lower()]


def _integer(low: int, high: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise BadOptionError(f"{value!r} is not a whole number from {low} to {high}")

    return check


def _seconds(high: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value <= high:
            raise BadOptionError(f"{value!r} is not a number of seconds from 0 to {high:g}")

    return check


def _flag(value: Any) -> None:
    if not isinstance(value, bool):
        raise BadOptionError(f"{value!r} is not true or false")


def _tool_name(value: Any) -> None:
    if not isinstance(value, str) or not _TOOL.fullmatch(value):
        raise BadOptionError(f"{value!r} is not a tool's name")


# One hour of silence and a million deltas are far beyond any test; 1 MiB is the size of a large inline image.
_EVENTS = _integer(0, 1_000_000)
OPTIONS = (
    Option("events", "X-Sim-Events", _read_integer, _EVENTS, "number of text deltas"),
    Option("interval", "X-Sim-Interval", _read_seconds, _seconds(3600), "seconds between deltas, 0 = at once"),
    Option("first_byte", "X-Sim-First-Byte", _read_seconds, _seconds(3600), "seconds before the response head"),
    Option(
        "event_bytes", "X-Sim-Event-Bytes", _read_integer, _integer(0, 1 << 20), "size of a delta's text, 0 = a word"
    ),
    Option("status", "X-Sim-Status", _read_integer, _integer(400, 599), "answer with this error status"),
    Option("retry_after", "X-Sim-Retry-After", _read_integer, _integer(0, 86_400), "Retry-After of a forced status"),
    Option("truncate", "X-Sim-Truncate", _read_integer, _EVENTS, "close after this many deltas, unterminated"),
    Option("split", "X-Sim-Split", _read_flag, _flag, "write each event in two halves, a pause between"),
    Option("stall", "X-Sim-Stall", _read_integer, _EVENTS, "go silent after this many deltas"),
    Option("tool", "X-Sim-Tool", str, _tool_name, "call this tool of the request, 1 = the first"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


def from_headers(headers: CIMultiDictProxy[str], defaults: Behaviour) -> Behaviour:
    """Return `defaults` overridden by the request's X-Sim headers; raise BadOptionError on nonsense."""
    if TAG_HEADER in headers:
        _check_tag(headers.getall(TAG_HEADER))
    given: dict[str, Any] = {}
    for option in OPTIONS:
        values = headers.getall(option.header, [])
        if len(values) > 1:
            raise BadOptionError(f"{option.header}: given {len(values)} times")
        if values:
            given[option.name] = _read(option, values[0])
    return _override(defaults, given) if given else defaults


def from_json(document: Any, defaults: Behaviour) -> Behaviour:
    """Return `defaults` overridden by a JSON object of options; null restores "not set"."""
    if not isinstance(document, dict):
        raise BadOptionError("a JSON object of options is expected")
    given: dict[str, Any] = {}
    for name, value in document.items():
        option = _BY_NAME.get(name)
        if option is None:
            raise BadOptionError(f"{name[:40]!r} is not an option; options are {', '.join(_BY_NAME)}")
        given[name] = _checked(option, value)
    return _override(defaults, given)


def as_json(behaviour: Behaviour) -> dict[str, Any]:
    """Return every option by name, as `POST /_sim/defaults` takes it."""
    return {field.name: getattr(behaviour, field.name) for field in fields(behaviour)}


def _override(defaults: Behaviour, given: Mapping[str, Any]) -> Behaviour:
    """Return `defaults` with `given`; asking for one kind of cut replaces a default of the other kind."""
    cuts = {"truncate", "stall"}
    asked = {name for name in cuts & given.keys() if given[name] is not None}
    replaced = dict.fromkeys(cuts - given.keys()) if asked else {}
    return replace(defaults, **{**replaced, **given})


def _read(option: Option, text: str) -> Any:
    """Return a header's value; an error is told with the header's name."""
    try:
        value = option.read(text.strip())
        option.check(value)
    except BadOptionError as error:
        raise BadOptionError(f"{option.header}: {error}") from None
    return value


def _checked(option: Option, value: Any) -> Any:
    """Return a value that came as JSON; null means as if it had never been set."""
    if value is None:
        return getattr(Behaviour(), option.name)
    try:
        option.check(value)
    except BadOptionError as error:
        raise BadOptionError(f"{option.name}: {error}") from None
    return value


def _check_tag(values: list[str]) -> None:
    if len(values) != 1 or not _TAG.fullmatch(values[0]):
        raise BadOptionError(f"{TAG_HEADER}: one id of 1 to 200 visible ASCII characters is expected")


DEMO_PACE = Behaviour(interval=0.065)  # a person reads along: sixty words in four seconds
