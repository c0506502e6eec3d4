"""What spans say of a provider's operations, from the dialects' tables."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.dialects.table import Operation
from gateway.observability.request_log import RequestLog
from gateway.observability.tracing import Route, Routes, Spans, exporter
from gateway.proxy.provider import dialect_of
from gateway.settings import Provider, Settings

SYSTEMS = {
    "openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini", "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock", "azure-openai": "azure.ai.openai",
}  # fmt: skip
"""``gen_ai.provider.name`` by dialect (opentelemetry.io/docs/specs/semconv/gen-ai); others by the provider's name."""

ACTS = (
    ("embed", "embeddings"),
    ("generateContent", "generate_content"),
    ("GenerateContent", "generate_content"),
    ("/chat/", "chat"),
    ("/completions", "text_completion"),
)
"""``gen_ai.operation.name`` by a piece of the path; whatever else runs a model is a chat."""


def routes(providers: Mapping[str, Provider]) -> Routes:
    """Every operation of the tables, at every provider that speaks its dialect."""
    return {
        (name, operation.id): _route(name, provider, operation)
        for name, provider in providers.items()
        for operation in dialect_of(provider).operations
    }


def _route(name: str, provider: Provider, operation: Operation) -> Route:
    act = next((act for piece, act in ACTS if piece in operation.path), "chat") if operation.invokes else ""
    server = urlsplit(provider.base_url).hostname or ""
    return Route(operation.method, operation.path, SYSTEMS.get(provider.dialect, name), act, server)


def traced(settings: Settings, log: RequestLog, replica: str) -> Spans:
    """A request log that also makes spans. Needs the extra ``otel``."""
    assert settings.tracing.endpoint is not None
    spans = Spans(
        log, exporter(settings.tracing.endpoint), routes(settings.providers), settings.tracing.sample, replica=replica
    )
    spans.log_permits = settings.log.requests
    return spans
