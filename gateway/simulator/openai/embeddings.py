"""POST /v1/embeddings: unit vectors that depend on model and input alone."""

import math
import struct
from base64 import b64encode
from hashlib import shake_128
from typing import Any

import orjson

from gateway.simulator import content
from gateway.simulator.dialect import ApiError, Call, Reply, json_reply

DEFAULT_DIMENSIONS = 1536  # text-embedding-3-small
MAX_DIMENSIONS = 3072  # text-embedding-3-large
MAX_INPUTS = 2048  # the documented limit of one request


def create(call: Call) -> Reply:
    """Answer with a CreateEmbeddingResponse, as floats or as base64 of little-endian float32."""
    model = call.required_model()
    inputs = _inputs(call.document.get("input"))
    dimensions = _dimensions(call.document.get("dimensions", DEFAULT_DIMENSIONS))
    as_base64 = call.document.get("encoding_format", "float") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _encode(_vector(model, item, dimensions), as_base64)}
        for index, item in enumerate(inputs)
    ]
    tokens = content.tokens_in(*inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_reply({"object": "list", "data": data, "model": model, "usage": usage})


def _inputs(given: Any) -> list[Any]:
    """Return the inputs one by one: a string, strings, tokens, or lists of tokens may be given."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise ApiError(400, "input: a string or a non-empty list is required", param="input")
    if isinstance(given[0], int):
        return [given]
    if len(given) > MAX_INPUTS:
        raise ApiError(400, f"input: at most {MAX_INPUTS} inputs per request", param="input")
    return given


def _dimensions(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= MAX_DIMENSIONS:
        raise ApiError(400, f"dimensions: a whole number from 1 to {MAX_DIMENSIONS}", param="dimensions")
    return given


def _vector(model: str, item: Any, dimensions: int) -> list[float]:
    noise = shake_128(orjson.dumps([model, item])).digest(2 * dimensions)
    raw = struct.unpack(f"<{dimensions}h", noise)
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    return [value / length for value in raw]


def _encode(vector: list[float], as_base64: bool) -> list[float] | str:
    if not as_base64:
        return vector
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
