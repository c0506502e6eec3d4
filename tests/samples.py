"""Small policies, callers and requests that many tests start from."""

from datetime import UTC, datetime
from typing import Any

from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.document import Document, Hold, Order, load

AT = datetime(2026, 6, 12, 21, 21, tzinfo=UTC)
SINCE = "2026-06-12T21:21:00Z"

ALICE = Caller("alice", Facts(Kind.PERSON, nationality=frozenset({"US"})), "p-alice")
BOB = Caller("bob", Facts(Kind.PERSON, nationality=frozenset({"GB"})), "p-bob")
ACME = Caller("acme", Facts(Kind.SERVICE, org="acme"), "p-acme")


def model(provider: str, *names: str, **fields: Any) -> dict[str, Any]:
    """A model of one route, as a document writes it."""
    return {"routes": [{"provider": provider, "names": list(names)}], **fields}


MODELS: dict[str, Any] = {
    "claude-fable-5": model(
        "anthropic", "claude-fable-5", "claude-fable-5-20260401", aliases=["claude-fable-latest"], family="fable",
        tags=["controlled", "frontier"],
    ),
    "claude-haiku-4-5": model("anthropic", "claude-haiku-4-5", family="haiku"),
    "claude-opus-4-5": model("anthropic", "claude-opus-4-5", family="opus", tags=["frontier"]),
    "gpt-5.4": {
        "routes": [{"provider": "openai", "names": ["gpt-5.4", "ft:gpt-5.4:*"]}, {"provider": "compatible", "names": ["openai/gpt-5.4"]}],
        "family": "gpt",
    },
    "gpt-5.4-mini": model("openai", "gpt-5.4-mini", family="gpt"),
    "text-embedding-3-small": model("openai", "text-embedding-3-small", capability="embedding"),
}  # fmt: skip


def document(**fields: Any) -> Document:
    """A policy over ``MODELS``; fields replace its own."""
    return Document.model_validate({"gateway": "test", "contact": "help@example.com", "models": MODELS, **fields})


def hold(*patterns: str, **fields: Any) -> Hold:
    """A hold on patterns."""
    return Hold.model_validate({"models": patterns, "by": "op", "at": AT, **fields})


def order(**fields: Any) -> Order:
    """The act behind a hold."""
    return Order.model_validate({"authority": "BIS", "reference": "2026-1", "by": "op", "at": AT, **fields})


def reread(original: Document) -> Document:
    """A document as a replica gets it: from its bytes."""
    from gateway.policy.document import dump

    return load(dump(original))
