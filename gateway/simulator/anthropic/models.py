"""GET /v1/models (paged by `after_id`, `before_id`, `limit`) and /v1/models/{id}."""

from collections.abc import Mapping

from gateway.simulator.dialect import ApiError, Call, Json, Reply, json_reply

DEFAULT_PAGE = 20
MAX_PAGE = 1000
_CREATED_AT = "2026-01-01T00:00:00Z"
_LINES = ("haiku", "sonnet", "opus", "fable", "mythos")


def list_models(call: Call) -> Reply:
    """Answer with one page; raise ApiError 400 on a cursor that is no model or a limit outside 1 to 1000."""
    limit = _limit(call.query)
    names = list(call.models)
    if "before_id" in call.query:
        before = names[: _position(names, call.query["before_id"])]
        page, has_more = before[-limit:], len(before) > limit
    else:
        after = names[_position(names, call.query["after_id"]) + 1 :] if "after_id" in call.query else names
        page, has_more = after[:limit], len(after) > limit
    ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
    return json_reply({"data": [_model(name) for name in page], "has_more": has_more, **ends})


def retrieve(call: Call) -> Reply:
    """Answer with one ModelInfo; raise ApiError 404 where the provider does not list it."""
    name = call.path["id"]
    if name not in call.models:
        raise ApiError(404, f"model: {name}")
    return json_reply(_model(name))


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(DEFAULT_PAGE))
    if not text.isdecimal() or not text.isascii() or len(text) > 4 or not 1 <= int(text) <= MAX_PAGE:
        raise ApiError(400, f"limit: a whole number from 1 to {MAX_PAGE} is expected")
    return int(text)


def _position(names: list[str], cursor: str) -> int:
    if cursor not in names:
        raise ApiError(400, f"there is no model {cursor!r} to page from")
    return names.index(cursor)


def _model(name: str) -> Json:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": _CREATED_AT,
        "lifecycle": "active",
        "line": next((line for line in _LINES if line in name), None),
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
