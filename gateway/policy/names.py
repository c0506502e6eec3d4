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
_REGION = re.compile(r"^(us|eu|apac|jp|au|ca|sa|global|us-gov)\.(?=[a-z0-9]+\.)")
_MAKER = re.compile(r"^(anthropic|amazon|openai|google|meta|mistral|cohere|deepseek|qwen|ai21|writer)\.(?=[a-z])")
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


_FINE_TUNE = re.compile(r"ft:(?P<base>[^:]+):.+", re.IGNORECASE)
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:(?:foundation-model|inference-profile)/(?P<base>[^/]+)")
_OPAQUE = re.compile(r"(arn:|endpoints/|projects/|sagemaker)|(?:.*/)?(auto|default|latest)$", re.IGNORECASE)


def base_of(name: str) -> str | None:
    """The model that a name says it is made of, or is another address of: a fine-tune's base, an ARN's resource.

    OpenAI's fine-tunes and their checkpoints are ``ft:<base>:<org>:<name>:<id>``; Bedrock's foundation models and
    system-defined inference profiles have their id in their ARN. Other ARNs do not say what they run.
    """
    found = _FINE_TUNE.fullmatch(name)
    return found["base"] if found else addressed(name)


def addressed(name: str) -> str | None:
    """The id in an ARN that is nothing but another way to write it."""
    found = _ARN.fullmatch(name)
    return found["base"] if found else None


def opaque(name: str) -> bool:
    """Whether a name says nothing about what runs: another ARN, an endpoint's id, ``auto``."""
    return base_of(name) is None and _OPAQUE.match(name) is not None


_EDITION = re.compile(
    r"-(?:v\d{1,2}(?:-\d{1,2})?|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}(?:\d{2})?|\d{4}|\d{3}|0|latest|preview|exp|fast|thinking)$"
)
"""What names one edition of a model: a version, a day, *the latest*."""


def kinship(name: str) -> str:
    """What is left of a skeleton without its edition and the order of its words; numbers keep theirs.

    ``claude-4-5-opus-20991231``, ``claude-opus-4-5-latest`` and ``ft:claude-opus-4.5:acme`` share one. To deny only: an
    edition that the catalog has not heard of is refused as the model that it is an edition of.
    """
    bare = skeleton(base_of(name) or name)
    while (shorter := _EDITION.sub("", bare)) != bare:
        bare = shorter
    parts = bare.split("-")
    words = sorted(part for part in parts if not part.isdigit())
    return "-".join([*words, *(part for part in parts if part.isdigit())])


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
