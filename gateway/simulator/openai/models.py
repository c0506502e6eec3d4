"""GET /v1/models and /v1/models/{id}."""

from gateway.simulator.dialect import EPOCH, ApiError, Call, Json, Reply, json_reply


def list_models(call: Call) -> Reply:
    """Answer with every model of the provider, in the configured order."""
    return json_reply({"object": "list", "data": [_model(name) for name in call.models]})


def retrieve(call: Call) -> Reply:
    """Answer with one Model; raise ApiError 404 where the provider does not list it."""
    name = call.path["id"]
    if name not in call.models:
        raise ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return json_reply(_model(name))


def _model(name: str) -> Json:
    """A model of OpenAI's; one of Mistral's has what its SDK reads no model without."""
    more: Json = {"type": "base", "capabilities": {}} if name.startswith("mistral") else {}
    return {"id": name, "object": "model", "created": EPOCH, "owned_by": "simulator", **more}
