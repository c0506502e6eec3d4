"""What a simulator is made of: providers and their dialects, models, keys, defaults, bounds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.simulator.behaviour import Behaviour

DIALECT_NAMES = ("openai", "anthropic", "gemini", "bedrock")
RESERVED = "_sim"
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

_OPENAI_MODELS = ("gpt-5.4", "gpt-5.4-mini", "text-embedding-3-small")
_ANTHROPIC_MODELS = ("claude-fable-5", "claude-mythos-5", "claude-opus-4-5", "claude-haiku-4-5")
_GEMINI_MODELS = ("gemini-3-pro", "gemini-3-flash")
_BEDROCK_MODELS = ("anthropic.claude-fable-5-20260324-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0")
_PROVIDERS = MappingProxyType(
    {"openai": "openai", "anthropic": "anthropic", "compat": "openai", "gemini": "gemini", "bedrock": "bedrock"}
)
_MODELS = MappingProxyType(
    {
        "openai": _OPENAI_MODELS,
        "anthropic": _ANTHROPIC_MODELS,
        "compat": (*_OPENAI_MODELS, *_ANTHROPIC_MODELS),
        "gemini": _GEMINI_MODELS,
        "bedrock": _BEDROCK_MODELS,
    },
)
_NO_KEYS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Everything a simulator is told at its start; raises ValueError where it does not fit together.

    Attributes:
        providers: name → dialect; requests of a provider come under `/{name}/…`.
        models: name → model ids it lists; any model may be called, listed or not.
        require_key: name → the only key this provider accepts (else 401). Absent: no key is needed.
        defaults: the behaviour of requests that say nothing about it.
        keep_requests: exchanges kept; the oldest goes first.
        keep_body_bytes: bytes of request bodies kept in all; the oldest exchange goes first.
        keep_emissions: emissions kept per exchange; the oldest go first.
        max_body: bytes of a request body that are accepted (else 413).
        split_pause: seconds between the two halves of an event under X-Sim-Split.
    """

    providers: Mapping[str, str] = field(default_factory=lambda: _PROVIDERS)
    models: Mapping[str, Sequence[str]] = field(default_factory=lambda: _MODELS)
    require_key: Mapping[str, str] = field(default_factory=lambda: _NO_KEYS)
    defaults: Behaviour = field(default_factory=Behaviour)
    keep_requests: int = 10_000
    keep_body_bytes: int = 256 << 20
    keep_emissions: int = 50_000
    max_body: int = 64 << 20
    split_pause: float = 0.002

    def __post_init__(self) -> None:
        for name, dialect in self.providers.items():
            if not _PROVIDER.fullmatch(name) or name == RESERVED:
                raise ValueError(f"provider {name!r}: lower-case letters, digits, - and _ are expected")
            if dialect not in DIALECT_NAMES:
                raise ValueError(f"provider {name!r}: dialect {dialect!r} is not one of {', '.join(DIALECT_NAMES)}")
        for name in self.require_key:
            if name not in self.providers:
                raise ValueError(f"require_key: there is no provider {name!r}")
        if min(self.keep_requests, self.keep_emissions, self.max_body) < 1 or self.keep_body_bytes < 0:
            raise ValueError("keep_requests, keep_emissions and max_body are at least 1, keep_body_bytes 0")

    def models_of(self, provider: str) -> tuple[str, ...]:
        """Return the ids that `provider` lists, in the order given."""
        return tuple(self.models.get(provider, ()))
