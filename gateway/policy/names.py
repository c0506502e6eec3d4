"""Names of models: which are well formed, which look alike, which a pattern covers.

The rule is: match loosely to deny, exactly to permit. A permit needs the exact name from the catalog; a
denial also finds a name by its *skeleton*, so that another spelling of an offline model is refused as that
model and not as a misspelling.
"""

import re
import unicodedata
from fnmatch import fnmatchcase

MAX_NAME = 256
"""Characters. The longest real names are ARNs of inference profiles, below 200."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*(\[[a-z0-9]{1,8}\])?")
_SUFFIX = re.compile(r"\[[a-z0-9]{1,8}\]$")
_REGION = re.compile(r"^(us|eu|apac|global|us-gov)\.(?=[a-z0-9]+\.)")
_MAKER = re.compile(r"^(anthropic|amazon|openai|google|meta|mistral)\.(?=[a-z])")
_SEPARATORS = re.compile(r"[._@:+-]+")
_PATTERN = re.compile(r"\*|(?:(?:family|tag|provider):)?[A-Za-z0-9*?._:/@+-]{1,256}")


def well_formed(name: str) -> bool:
    """Whether a request may name a model like this.

    Letters, digits and ``._:/@+-``; a client's suffix such as ``[1m]`` may follow. Anything else (spaces,
    look-alike letters, control characters) is malformed, never repaired.
    """
    return len(name) <= MAX_NAME and _WELL_FORMED.fullmatch(name) is not None


def skeleton(name: str) -> str:
    """What is left of a name when case, prefixes, client suffixes and the choice of separator are taken away.

    ``anthropic/Claude_Fable-5[1m]``, ``us.anthropic.claude-fable-5`` and ``claude-fable-5`` share one.
    """
    bare = unicodedata.normalize("NFKC", name.strip()).casefold()
    bare = _SUFFIX.sub("", bare).rsplit("/", 1)[-1]
    bare = _MAKER.sub("", _REGION.sub("", bare))
    return _SEPARATORS.sub("-", bare.replace("_", "-"))


def valid_pattern(pattern: str) -> bool:
    """Whether a restriction may name models like this: ``*``, an id, a glob, ``family:``, ``tag:``, ``provider:``."""
    return _PATTERN.fullmatch(pattern) is not None


_KINDS = ("family:", "tag:", "provider:")
_WILDCARD = re.compile(r"[*?]")


def literal_start(pattern: str) -> str:
    """What every id begins with that a pattern can mean."""
    return "" if pattern.startswith(_KINDS) else _WILDCARD.split(pattern, maxsplit=1)[0]


def covers(pattern: str, model_id: str, family: str | None, tags: frozenset[str], providers: frozenset[str]) -> bool:
    """Whether a pattern means this model."""
    kind, _, value = pattern.partition(":")
    match kind:
        case "family" if value:
            return family is not None and fnmatchcase(family, value)
        case "tag" if value:
            return any(fnmatchcase(tag, value) for tag in tags)
        case "provider" if value:
            return any(fnmatchcase(provider, value) for provider in providers)
        case _:
            return fnmatchcase(model_id, pattern)
