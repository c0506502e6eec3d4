"""Token usage in the shape that chat and legacy completions share."""

from gateway.simulator.dialect import Json


def completion_usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Return a CompletionUsage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def wants_usage(document: Json) -> bool:
    """Whether the stream shall end with a chunk of usage (`stream_options.include_usage`)."""
    options = document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
