"""Reads the names of models out of a JSON body, strictly: what two parsers could read differently is refused.

``bodies`` says which reader a request gets; ``forms`` and ``lines`` read the other kinds of bodies with this one.

On duplicate keys Python, orjson and Node take the last, others the first, and Go matches keys without regard
to case. So a selector's key may stand once, spelled exactly. The body is parsed once by orjson (which refuses a
byte order mark, other encodings, NaN, infinities, lone surrogates, a second document and nesting beyond 1024).
Only where a selector's key occurs more than once anywhere, a second, slower pass looks at the pairs themselves.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol, Self

import orjson

from gateway.dialects.pairs import Pairs
from gateway.policy.names import well_formed

EACH = "[]"
EACH_OR_TEXT = "[]?"
"""As ``[]``, where a string may stand instead of the list: nothing can be named in it."""

ANY_MEMBER = "*"
"""Each member of an object, or of a list, whatever its key."""

_WILD = frozenset((EACH, EACH_OR_TEXT, ANY_MEMBER))

MAX_NAMES = 32
"""Names in one request, which names one to three; in a batch of requests, different names."""

MAX_STRUCTURE = 2_000_000
"""Brackets and commas in a body. Ten million empty objects in 31 MB would take any parser seconds."""

MAX_AMBIGUOUS_STRUCTURE = 200_000
"""The same for the slow pass, which takes some two microseconds a value."""

MAX_BATCH_STRUCTURE = 1_000_000
"""The same for batches, in which every request has its ``model``: they are read by nothing but the slow pass."""

MANY_QUOTES = 200_000
"""From here on keys are looked for from the brackets and commas before them, which are bounded: quotes are not. A
string of fifteen million escaped ones kept the search for ten seconds; for an image it is four times as slow.
"""

LIGHT = 20_000
"""Brackets, commas and quotes that are read in about a millisecond: what others may be made to wait for."""

LIGHT_BYTES = 1024 * 1024
"""The same, of bytes."""


class MalformedBodyError(Exception):
    """The body cannot be read in one way only. The message is for the client and quotes nothing of the body."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class HeavyBodyError(Exception):
    """Reading it takes so long that it should be done elsewhere, by ``read``."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Where a JSON body names a model: a path of keys. A step ``[]`` means each item of an array.

    What kind of item it is does not matter: a ``model`` where one may stand is a name that counts. ``absent`` says
    which models (a capability) could be meant where the last key is missing. ``or_key``: an object with the name
    under this key is documented there, too.
    """

    path: tuple[str, ...]
    required: bool = False
    absent: str = ""
    or_key: str = ""

    @classmethod
    def parse(cls, text: str, absent: str = "") -> Self:
        """Read ``model!`` (required), ``tools[].model``, ``input[]?.tools[].model``.

        Raises:
            ValueError: it is none.
        """
        spelt = text.removesuffix("!")
        path = tuple(step for step in re.split(r"\.|(?=\[\])", spelt) if step)
        if not path or path[-1] in _WILD or not all(step in _WILD or _KEY.fullmatch(step) for step in path):
            raise ValueError(f"{text!r} is no selector: write model!, session.model, tools[].model")
        return cls(path, required=text.endswith("!"), absent=absent)

    def __str__(self) -> str:
        return _spell(self.path) + ("!" if self.required else "")


_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Implied:
    """A value by which a body lets a model run that it need not name: ``fallbacks: "default"``, an image tool.

    ``capability`` says which models could be meant, unless the key ``unless`` beside it names one. An empty ``value``
    is any but null.
    """

    path: tuple[str, ...]
    value: str
    capability: str
    unless: str = ""

    def says(self, value: Any) -> bool:
        """Whether this value is the one."""
        return value == self.value if self.value else value is not None


class Reading(NamedTuple):
    """What a body says: the names it gives, in the order of the selectors, and whether it asks for a stream.

    ``unnamed`` are the capabilities of models that it could invoke without naming them. ``ids`` are those of kept
    things, each after the path it stands at; an empty one is none that could be known.
    """

    names: tuple[str, ...]
    stream: bool
    unnamed: tuple[str, ...] = ()
    ids: tuple[tuple[str, str], ...] = ()


class Reader(Protocol):
    """Reads bodies of one kind; ``read_light`` only what is done in a moment."""

    def read_light(self, body: bytes) -> Reading:
        """The names in a body, or ``HeavyBodyError``."""

    def read(self, body: bytes) -> Reading:
        """The names in a body, however long that takes."""


class BodyReader:
    """Reads the bodies of one operation. ``batch``: many requests in one, of which the different names count.

    ``references``: where it names things that the provider keeps, by id or by an object with one.
    """

    def __init__(
        self,
        selectors: tuple[Selector, ...],
        implied: tuple[Implied, ...] = (),
        *,
        batch: bool = False,
        references: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.selectors = selectors
        self.implied = implied
        self.batch = batch
        self.references = references
        watched = [*(step for s in selectors for step in (*s.path, "stream"))]
        watched += [step for i in implied for step in (i.path[:1] if i.value else i.path)]
        watched += [selector.or_key for selector in selectors if selector.or_key]
        watched += [path[0] for path in references]
        self._keys = tuple(dict.fromkeys(step for step in watched if step not in _WILD))
        self._quoted = tuple((key, b'"%b"' % key.lower().encode()) for key in self._keys)
        self._steps = tuple((selector, frozenset(selector.path) - _WILD) for selector in selectors)
        self._words = frozenset((i.path, i.value) for i in implied)
        self._among_few_quotes, self._among_many_quotes = _occurrences(self._keys)
        values = {i.value for i in implied if i.value and len(i.path) > 1}
        self._marked = re.compile(b'"(?:' + b"|".join(map(_value_spellings, values)) + b')"') if values else None

    def read_light(self, body: bytes) -> Reading:
        """The names in a body, if that is done in a moment.

        Raises:
            MalformedBodyError: not JSON, not an object, ambiguous, or a name that is none.
            HeavyBodyError: it is not.
        """
        must_be_light(body)
        return self.read(body)

    def read(self, body: bytes) -> Reading:
        """The names in a body, however long that takes: up to a second.

        Raises:
            MalformedBodyError: not JSON, not an object, ambiguous, or a name that is none.
        """
        document: Any = parse_object(body)
        keys = self._occurring(body)
        if keys is None or (self._marked is not None and self._marked.search(body)):
            if _structure(body) > (MAX_BATCH_STRUCTURE if self.batch else MAX_AMBIGUOUS_STRUCTURE):
                raise MalformedBodyError("A key that names models stands twice in a body of too many values.", 413)
            document, keys = _as_pairs(body), set(self._keys)
        names, unnamed = self._names(document, keys)
        if self.implied:
            unnamed += self._implied(document, keys)
        stream = "stream" in keys and _member(document, "stream") is True
        ids = self._ids(document, keys, body) if self.references else ()
        return Reading(tuple(names), stream, tuple(dict.fromkeys(unnamed)) if unnamed else (), ids)

    def _names(self, document: Any, keys: set[str]) -> tuple[list[str], list[str]]:
        names: list[str] = []
        unnamed: list[str] = []
        for selector, steps in self._steps:
            if steps <= keys:
                names += self._select(document, selector, unnamed)
            elif selector.required:
                raise _missing(selector)
            elif selector.absent and self._is_absent(document, selector, keys):
                unnamed.append(selector.absent)
        if self.batch:
            names = list(dict.fromkeys(names))
        if len(names) > MAX_NAMES:
            raise MalformedBodyError(f"The body names more than {MAX_NAMES} models.")
        return names, unnamed

    def _ids(self, document: Any, keys: set[str], body: bytes) -> tuple[tuple[str, str], ...]:
        """The ids of kept things. Within an object they are read from the pairs: another ``id`` may stand beside."""
        found = []
        for path in self.references:
            value = _member_or_none(document, path[0]) if path[0] in keys else None
            if isinstance(value, dict):
                if _structure(body) > MAX_AMBIGUOUS_STRUCTURE:
                    raise MalformedBodyError("The body has too many values.", 413)
                document = _as_pairs(body)
                value = _member_or_none(document, path[0])
            for step in path[1:] or (("id",) if isinstance(value, Pairs) else ()):
                value = _member_or_none(value, step) if isinstance(value, Pairs) else None
            if value is not None:
                found.append((".".join(path), value if isinstance(value, str) else ""))
        return tuple(found)

    def _occurring(self, body: bytes) -> set[str] | None:
        """Which of the selectors' keys occur anywhere, in any spelling; ``None`` if one does twice."""
        if body.isascii() and b"\\u" not in body:  # case is then all that spellings can differ in
            folded = body.lower()
            counts = [(key, folded.count(quoted)) for key, quoted in self._quoted]
            if all(count < 2 for _, count in counts):
                return {key for key, count in counts if count}
        occurrences = self._among_many_quotes if body.count(b'"') > MANY_QUOTES else self._among_few_quotes
        seen: set[str] = set()
        for match in occurrences.finditer(body):
            key = self._keys[(match.lastindex or 0) - 1]
            if key in seen:
                return None
            seen.add(key)
        return seen

    def _select(self, document: Any, selector: Selector, unnamed: list[str]) -> list[str]:
        names = []
        found = False
        path = selector.path
        for value in (_member(document, path[0]),) if len(path) == 1 else self._walk(document, path):
            if value is _ABSENT:
                if selector.required:
                    raise _missing(selector)
                if selector.absent:
                    unnamed.append(selector.absent)
                continue
            found = True
            if selector.or_key and isinstance(value, dict | Pairs):
                value = _member(value, selector.or_key)  # noqa: PLW2901 - the documented other way to say the same
            if not isinstance(value, str) or not well_formed(value):
                raise MalformedBodyError(
                    f"{_spell(selector.path)} must be a model's name: letters, digits and ._:/@+- only."
                )
            names.append(value)
        if selector.required and not found:
            raise _missing(selector)
        return names

    def _is_absent(self, document: Any, selector: Selector, keys: set[str]) -> bool:
        """Whether the object is there that could have had a selector's last key, which occurs nowhere."""
        parents = selector.path[:-1]
        if not frozenset(parents) - _WILD <= keys:
            return False
        return any(isinstance(value, dict | Pairs) for value in self._walk(document, parents))

    def _implied(self, document: Any, keys: set[str]) -> list[str]:
        """Which models the body could invoke by saying nothing but one of certain words.

        A word further down has been looked for in the whole body: where it is, the body has been read as pairs.
        """
        return [
            implied.capability
            for implied in self.implied
            if implied.path[0] in keys and (len(implied.path) == 1 or not implied.value or isinstance(document, Pairs))
            for holder in self._walk(document, implied.path[:-1])
            if isinstance(holder, dict | Pairs)
            and implied.says(_member_or_none(holder, implied.path[-1]))
            and not (implied.unless and _member_or_none(holder, implied.unless))
        ]

    def _walk(self, value: Any, path: tuple[str, ...], walked: tuple[str, ...] = ()) -> Iterator[Any]:
        """Every value at a path; ``_ABSENT`` for each object at its end that lacks the last key."""
        if not path:
            yield value
            return
        step, rest = path[0], path[1:]
        walked = (*walked, step)
        if step in _WILD:
            for item in self._items(value, step, walked[:-1]):
                yield from self._walk(item, rest, walked)
        elif isinstance(value, dict | Pairs):
            member = _member(value, step)
            if member is _ABSENT:
                if not rest:
                    yield _ABSENT
            elif not (member is None and rest):
                yield from self._walk(member, rest, walked)

    def _items(self, value: Any, step: str, walked: tuple[str, ...]) -> list[Any]:
        """What a step of many means."""
        if isinstance(value, Pairs):
            members = [member for _, member in value]
        else:
            members = list(value.values()) if isinstance(value, dict) else []
        if step == ANY_MEMBER:
            return value if isinstance(value, list) and not isinstance(value, Pairs) else members
        if isinstance(value, list) and not isinstance(value, Pairs):
            return value
        text = isinstance(value, str) and (step == EACH_OR_TEXT or (walked, value) in self._words)
        if value is not None and not text:
            raise MalformedBodyError("A list was expected where models may be named.")
        return []


def must_be_light(body: bytes) -> None:
    """Judge by its size and form whether a body can be read in a moment.

    Raises:
        HeavyBodyError: it can not.
    """
    if len(body) > LIGHT and (len(body) > LIGHT_BYTES or _structure(body) + body.count(b'"') > LIGHT):
        raise HeavyBodyError


def parse_object(body: bytes) -> dict[str, Any]:
    """The body's one JSON object; of a key that stands twice in it the last.

    Raises:
        MalformedBodyError: it has none, or too many values.
    """
    if len(body) > MAX_STRUCTURE and _structure(body) > MAX_STRUCTURE:
        raise MalformedBodyError("The body has too many values.", 413)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(f"The body is not valid JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise MalformedBodyError("The body must be a JSON object.")
    return document


def one_member(body: bytes, key: str) -> Any:
    """A member of the body's object that stands in it once, in one spelling; ``None`` if it is not there.

    Raises:
        MalformedBodyError: it stands twice, or in another spelling.
    """
    if _structure(body) > MAX_AMBIGUOUS_STRUCTURE:
        raise MalformedBodyError(f"{key!r} stands twice in a body of too many values.", 413)
    return _member_or_none(_as_pairs(body), key)


def keys_like(key: str) -> re.Pattern[bytes]:
    """Matches wherever a key stands that some parser takes for this one."""
    return re.compile(_BEFORE_KEY + b'"' + _spellings(key) + rb'"[ \t\r\n]*:')


def _missing(selector: Selector) -> MalformedBodyError:
    return MalformedBodyError(f"{_spell(selector.path)} is missing.")


def _structure(body: bytes) -> int:
    """How many values a body can have at the most: three scans at memory's speed."""
    return body.count(b"{") + body.count(b"[") + body.count(b",")


_ABSENT = object()


def _member_or_none(value: Any, key: str) -> Any:
    member = _member(value, key)
    return None if member is _ABSENT else member


def _member(value: Any, key: str) -> Any:
    """The one member with this key, or ``_ABSENT``; refused where another spelling or a second one stands beside."""
    if isinstance(value, Pairs):
        found, names = [member for name, member in value if name == key], [name for name, _ in value]
        if len(found) > 1:
            raise MalformedBodyError(_twice(key))
        member = found[0] if found else _ABSENT
    elif key in value:
        return value[key]  # its only spelling in the whole body
    else:
        member, names = _ABSENT, list(value)
    folded = key.casefold()
    if any(len(name) == len(key) and name != key and name.casefold() == folded for name in names):
        raise MalformedBodyError(_twice(key))
    return member


def _twice(key: str) -> str:
    return f"{key!r} stands twice, or in another spelling."


def _as_pairs(body: bytes) -> Pairs:
    try:
        document: Pairs = json.loads(body.decode(), object_pairs_hook=Pairs)
    except RecursionError:
        raise MalformedBodyError("The body is nested too deeply.") from None
    return document


def _spell(path: tuple[str, ...]) -> str:
    return ".".join(path).replace(f".{EACH}", EACH)


def _value_spellings(value: str) -> bytes:
    """Every spelling of a string that means this value, and no other case."""
    return b"".join(
        b"(?:" + re.escape(letter.encode()) + b"|\\\\u(?i:" + f"{ord(letter):04x}".encode() + b"))" for letter in value
    )


_BEFORE_KEY = rb"[{,][ \t\r\n]*"
"""What stands before a key's quote in valid JSON, and never before one within a string: that has a backslash."""

_FOLDING = {"k": "\u212a", "s": "\u017f"}
"""The letters beyond ASCII that fold to ASCII ones: the Kelvin sign and the long s (Unicode CaseFolding.txt)."""


@cache
def _occurrences(keys: tuple[str, ...]) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What finds these keys in a body, and what does where other strings are many. 400 operations have 30 such sets."""
    occurrence = b'"(?:' + b"|".join(map(_spellings, keys)) + rb')"[ \t\r\n]*:'
    return re.compile(occurrence), re.compile(_BEFORE_KEY + occurrence)


def _spellings(key: str) -> bytes:
    """A group that matches every spelling of a key that some parser takes for it: case, escapes, folding letters."""
    return b"(" + b"".join(_letter(letter) for letter in key) + b")"


def _letter(letter: str) -> bytes:
    """A letter itself, its other case, or the escape of either: those differ in one digit, as all of ASCII does."""
    either = sorted({letter.lower(), letter.upper()})
    codes = [f"{ord(form):{case}}" for form in either for case in ("04x", "04X")]
    forms = [_any_of(either), rb"\\u" + b"".join(map(_any_of, zip(*codes, strict=True)))]
    if folding := _FOLDING.get(letter.lower()):
        forms += [folding.encode(), rb"\\u(?i:%04x)" % ord(folding)]
    return b"(?:" + b"|".join(forms) + b")"


def _any_of(characters: Iterable[str]) -> bytes:
    """One of some characters."""
    several = [re.escape(one.encode()) for one in sorted(set(characters))]
    return several[0] if len(several) == 1 else b"[" + b"".join(several) + b"]"
