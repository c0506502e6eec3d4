"""GET /v1beta/models and /v1beta/models/{id}."""

from gateway.simulator.dialect import ApiError, Call, Json, Reply, json_reply


def list_models(call: Call) -> Reply:
    """Answer with every model of the provider, on one page."""
    return json_reply({"models": [_model(name) for name in call.models]})


def retrieve(call: Call) -> Reply:
    """Answer with one Model; raise ApiError 404 where the provider does not list it."""
    name = call.path["id"]
    if name not in call.models:
        raise ApiError(404, f"models/{name} is not found")
    return json_reply(_model(name))


def _model(name: str) -> Json:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
