"""Rows 19 to 58: models in paths, in fields of their own, in forms and files, and in nothing at all."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from bypass_requests import DENIED, MALFORMED, UNKNOWN, UNREAD, Case, form, part, posted, request

K, A = "gpt-5.4", "gpt-5.4-mini"
FABLE, OPUS = "claude-fable-5", "claude-opus-4-5"
BED_K, BED_A = "anthropic.claude-fable-5-20260324-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0"
ARN = "arn:aws:bedrock:us-east-1"
HIDDEN = (400, 404)

Row = tuple[str, str, str, bytes, tuple[int, ...]]


def _bedrock() -> Iterator[Row]:
    def at(model: str, verb: str = "converse", body: Any = None, safe: str = "") -> bytes:
        return request("bedrock", f"/model/{quote(model, safe=safe)}/{verb}", body or {"messages": []})

    for verb in ("converse", "converse-stream", "invoke", "invoke-with-response-stream", "count-tokens"):
        yield "19", f"K by {verb}", "bedrock", at(BED_K, verb), DENIED
        for region in ("us", "eu", "apac", "global", "us-gov", "jp"):
            yield "19", f"{region} by {verb}", "bedrock", at(f"{region}.{BED_K}", verb), DENIED
        yield "19", f"foundation ARN by {verb}", "bedrock", at(f"{ARN}::foundation-model/{BED_K}", verb), DENIED
        yield (
            "19",
            f"profile ARN by {verb}",
            "bedrock",
            at(f"{ARN}:123456789012:inference-profile/us.{BED_K}", verb),
            DENIED,
        )
        for kind in (
            "application-inference-profile",
            "provisioned-model",
            "imported-model",
            "custom-model",
            "custom-model-deployment",
        ):
            yield "20", f"{kind} by {verb}", "bedrock", at(f"{ARN}:123456789012:{kind}/abc123", verb), DENIED
        for kind in ("prompt/ABC:1", "default-prompt-router/anthropic.claude:1", "prompt-router/x"):
            yield "21", f"{kind} by {verb}", "bedrock", at(f"{ARN}:123456789012:{kind}", verb), DENIED
        yield (
            "22",
            f"SageMaker by {verb}",
            "bedrock",
            at("arn:aws:sagemaker:us-east-1:123456789012:endpoint/x", verb),
            DENIED,
        )
    yield "13", "path in capitals", "bedrock", at(BED_K.upper()), DENIED
    yield "16", "another edition in the path", "bedrock", at("anthropic.claude-fable-5-20991231-v2:0"), DENIED
    yield "54", "the colon raw", "bedrock", at(BED_K, safe=":"), DENIED
    yield "54", "lower case hex", "bedrock", at(BED_K).replace(b"%3A", b"%3a"), DENIED
    yield "54", "twice encoded", "bedrock", at(quote(BED_K, safe="")), MALFORMED
    yield "54", "an encoded letter", "bedrock", at(BED_K).replace(b"claude", b"cl%61ude"), MALFORMED
    yield (
        "26",
        "fallbacks in an invoked body",
        "bedrock",
        at(BED_A, "invoke", {"fallbacks": [{"model": BED_K}]}),
        DENIED,
    )
    yield "27", "default fallbacks in an invoked body", "bedrock", at(BED_A, "invoke", {"fallbacks": "default"}), DENIED
    yield (
        "28",
        "an advisor in an invoked body",
        "bedrock",
        at(BED_A, "invoke", {"tools": [{"type": "advisor_20260301", "model": BED_K}]}),
        DENIED,
    )
    yield (
        "73",
        "an asynchronous result",
        "bedrock",
        request("bedrock", f"/async-invoke/{quote(ARN + ':1:async-invoke/x', safe='')}"),
        DENIED,
    )
    for path in (
        "/model-invocation-job",
        "/custom-models",
        "/provisioned-model-throughput",
        "/inference-profiles",
        "/prompt-routers",
        "/agents/a/agentAliases/b/sessions/c/text",
        "/flows/f/aliases/a",
        "/retrieveAndGenerate",
        "/rerank",
    ):
        yield "42" if "job" in path else "68", path, "bedrock", request("bedrock", path, {"modelId": BED_K}), UNKNOWN


def _google() -> Iterator[Row]:
    verbs = (
        "generateContent",
        "streamGenerateContent",
        "countTokens",
        "embedContent",
        "batchEmbedContents",
        "predict",
        "batchGenerateContent",
    )
    for version in ("v1", "v1beta"):
        for verb in verbs:
            path = f"/{version}/models/{{}}:{verb}"
            yield (
                "19",
                f"K by {version} {verb}",
                "gemini",
                request("gemini", path.format("gemini-3-pro"), {"contents": []}),
                DENIED,
            )
            yield (
                "16",
                f"an edition by {version} {verb}",
                "gemini",
                request("gemini", path.format("gemini-3-pro-preview-09-2099"), {}),
                DENIED,
            )
            for name in ("gemini-3-pro", "models/gemini-3-pro"):
                yield (
                    "23",
                    f"body {name} by {version} {verb}",
                    "gemini",
                    request("gemini", path.format("gemini-3-flash"), {"model": name}),
                    MALFORMED,
                )
            yield (
                "23",
                f"path K, body A by {version} {verb}",
                "gemini",
                request("gemini", path.format("gemini-3-pro"), {"model": "gemini-3-flash"}),
                MALFORMED,
            )
        yield (
            "23",
            f"counted request by {version}",
            "gemini",
            request(
                "gemini",
                f"/{version}/models/gemini-3-flash:countTokens",
                {"generateContentRequest": {"model": "models/gemini-3-pro"}},
            ),
            MALFORMED,
        )
        yield (
            "23",
            f"the same in snake case by {version}",
            "gemini",
            request(
                "gemini",
                f"/{version}/models/gemini-3-flash:countTokens",
                {"generate_content_request": {"model": "models/gemini-3-pro"}},
            ),
            MALFORMED,
        )
        yield (
            "23",
            f"one of several by {version}",
            "gemini",
            request(
                "gemini",
                f"/{version}/models/gemini-3-flash:batchEmbedContents",
                {"requests": [{"model": "models/gemini-3-flash"}, {"model": "models/gemini-3-pro"}]},
            ),
            MALFORMED,
        )
        yield (
            "42",
            f"a batch by {version}",
            "gemini",
            request(
                "gemini",
                f"/{version}/models/gemini-3-flash:batchGenerateContent",
                {"batch": {"input_config": {"file_name": "files/x"}}},
            ),
            DENIED,
        )
        yield (
            "17",
            f"a tuned model by {version}",
            "gemini",
            request("gemini", f"/{version}/tunedModels/gemini-3-pro:generateContent", {}),
            DENIED,
        )
        yield (
            "18",
            f"tuning K by {version}",
            "gemini",
            request("gemini", f"/{version}/tunedModels", {"baseModel": "models/gemini-3-pro"}),
            DENIED,
        )
        yield "73", f"a batch's results by {version}", "gemini", request("gemini", f"/{version}/batches/x"), DENIED
        yield "73", f"an operation by {version}", "gemini", request("gemini", f"/{version}/operations/x"), DENIED
        yield (
            "43",
            f"an agent's interaction by {version}",
            "gemini",
            request("gemini", f"/{version}/interactions", {"agent": "x"}),
            DENIED,
        )
        yield (
            "54",
            f"an encoded verb by {version}",
            "gemini",
            request("gemini", f"/{version}/models/gemini-3-pro%3AgenerateContent", {}),
            MALFORMED,
        )
        yield (
            "53",
            f"a verb behind a verb by {version}",
            "gemini",
            request("gemini", f"/{version}/models/gemini-3-flash:countTokens:generateContent", {}),
            UNKNOWN,
        )
    for query in KEYS_IN_QUERIES:
        for model in ("gemini-3-pro", "gemini-3-flash"):
            path = f"/v1beta/models/{model}:generateContent?{query}"
            yield "72", f"{query} for {model}", "gemini", request("gemini", path, {}), MALFORMED
            if query in PLAIN_KEYS:
                path = path.replace("gemini-3-flash", "gemini-3-pro")
                yield "72", f"{query} alone for K", "gemini", request("gemini", path, {}, auth=False), DENIED
            else:
                yield "72", f"{query} alone for {model}", "gemini", request("gemini", path, {}, auth=False), MALFORMED
    for query in ("key=demo-bob", "key=demo-alice", "alt=sse&Key=demo-bob", "access_token=demo-alice"):
        for model in ("gemini-3-pro", "gemini-3-flash"):
            path = f"/v1/projects/p/locations/l/publishers/google/models/{model}:generateContent?{query}"
            yield "72", f"{query} for {model}", "vertex", request("vertex", path, {}), MALFORMED
            yield "72", f"{query} alone for {model}", "vertex", request("vertex", path, {}, auth=False), MALFORMED
    place = "/v1/projects/p/locations/l"
    published = f"{place}/publishers/google/models"
    yield "19", "K", "vertex", request("vertex", f"{published}/gemini-3-pro:generateContent", {}), DENIED
    yield (
        "16",
        "Anthropic's spelling",
        "vertex",
        request("vertex", f"{place}/publishers/anthropic/models/{FABLE}@20260324:rawPredict", {}),
        DENIED,
    )
    yield (
        "24",
        "K counted",
        "vertex",
        request("vertex", f"{place}/publishers/anthropic/models/count-tokens:rawPredict", {"model": FABLE}),
        DENIED,
    )
    yield (
        "24",
        "nothing counted",
        "vertex",
        request("vertex", f"{place}/publishers/anthropic/models/count-tokens:rawPredict", {}),
        MALFORMED,
    )
    for verb in ("generateContent", "streamGenerateContent"):
        flash = f"{published}/gemini-3-flash:{verb}"
        for name, routing in (
            ("manual", {"routingConfig": {"manualMode": {"modelName": "gemini-3-pro"}}}),
            ("manual, snake case", {"routing_config": {"manual_mode": {"model_name": "gemini-3-pro"}}}),
            ("manual, in generationConfig", {"generationConfig": {"routingConfig": {"manualMode": {"modelName": "gemini-3-pro"}}}}),
            ("automatic", {"routingConfig": {"autoMode": {"modelRoutingPreference": "BALANCED"}}}),
            ("automatic, snake case", {"routing_config": {"auto_mode": {}}}),
            ("selection", {"modelSelectionConfig": {"featureSelectionPreference": "BALANCED"}}),
            ("selection, in generation_config", {"generation_config": {"model_selection_config": {}}}),
        ):  # fmt: skip
            yield "25", f"{name} by {verb}", "vertex", request("vertex", flash, routing), DENIED
        yield "22", f"an endpoint by {verb}", "vertex", request("vertex", f"{place}/endpoints/123:{verb}", {}), DENIED
    yield (
        "57",
        "the compatible surface",
        "vertex",
        request("vertex", f"{place}/endpoints/openapi/chat/completions", {"model": "google/gemini-3-pro"}),
        DENIED,
    )
    yield (
        "42",
        "a batch from storage",
        "vertex",
        request("vertex", f"{place}/batchPredictionJobs", {"model": "gemini-3-pro"}),
        UNKNOWN,
    )
    for deployment in ("prod", "PROD", "prod-mini", "unmapped"):
        statuses = {"prod": DENIED, "PROD": DENIED, "prod-mini": DENIED, "unmapped": UNKNOWN}[deployment]
        body = {"model": "prod" if deployment == "prod-mini" else "prod-mini", "messages": []}
        yield (
            "22",
            f"deployment {deployment}",
            "azure",
            request("azure", f"/openai/deployments/{deployment}/chat/completions?api-version=1", body),
            statuses,
        )


def _nested() -> Iterator[Row]:
    def openai(path: str, body: Any, **more: Any) -> bytes:
        return request("openai", path, body, **more)

    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        base = {"model": OPUS, "max_tokens": 9, "messages": []}
        for row, name, more, statuses in (
            ("26", "a fallback", {"fallbacks": [{"model": FABLE}]}, DENIED),
            ("26", "the second fallback", {"fallbacks": [{"model": OPUS}, {"model": FABLE}]}, DENIED),
            ("26", "a fallback's alias", {"fallbacks": [{"model": "claude-5-fable"}]}, DENIED),
            ("26", "fallbacks as an object", {"fallbacks": {"model": FABLE}}, MALFORMED),
            ("26", "fallbacks as another word", {"fallbacks": FABLE}, MALFORMED),
            ("26", "a fallback's model as a list", {"fallbacks": [{"model": [FABLE]}]}, MALFORMED),
            ("27", "default", {"fallbacks": "default"}, DENIED),
            ("28", "an advisor", {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": FABLE}]}, DENIED),
            ("28", "any tool's model", {"tools": [{"type": "whatever", "model": FABLE}]}, DENIED),
        ):  # fmt: skip
            yield row, f"{name} at {path}", "anthropic", request("anthropic", path, {**base, **more}), statuses
        twice = json.dumps({**base, "fallbacks": [{"model": FABLE}]})[:-1] + ',"fallbacks":[]}'
        yield "26", f"fallbacks twice at {path}", "anthropic", request("anthropic", path, twice.encode()), MALFORMED
    for key in ("fallbacks", "models", "context_window_fallbacks"):
        for value in (["mistral-large"], [{"model": "mistral-large"}]):
            yield (
                "26",
                f"{key} {value}",
                "compatible",
                request("compatible", "/v1/chat/completions", {"model": "gpt-oss", key: value}),
                DENIED,
            )
    image = {"type": "image_generation"}
    for where, holder in (
        ("tools", lambda tool: {"tools": [tool]}),
        ("a search's tools", lambda tool: {"input": [{"type": "tool_search_output", "tools": [tool]}]}),
    ):
        for row, name, tool in (
            ("29", "an image tool's K", {**image, "model": "gpt-image-1"}), ("29", "an image tool's svg K", {**image, "model": "omni-moderation", "svg": {"model": K}}),
            ("29", "an image tool without a model", image), ("29", "an image tool with null", {**image, "model": None}),
        ):  # fmt: skip
            yield (
                row,
                f"{name} in {where}",
                "openai",
                openai("/v1/responses", {"model": A, **holder(tool)}),
                MALFORMED if "null" in name else DENIED,
            )
    hidden = '{"model":"gpt-5.4-mini","tools":[{"type":"image\\u005fgeneration"}]}'
    yield "29", "an image tool, escaped", "openai", openai("/v1/responses", hidden.encode()), DENIED
    doubled = '{"model":"gpt-5.4-mini","tools":[{"type":"image_generation","type":"function"}]}'
    yield "29", "a tool of two types", "openai", openai("/v1/responses", doubled.encode()), MALFORMED
    for path in ("/v1/chat/completions", "/v1/responses"):
        yield "34", f"moderation at {path}", "openai", openai(path, {"model": A, "moderation": {"model": K}}), DENIED
        yield (
            "34",
            f"moderation twice at {path}",
            "openai",
            openai(path, f'{{"model":"{A}","moderation":{{"model":"{A}","model":"{K}"}}}}'.encode()),
            MALFORMED,
        )
    yield (
        "34",
        "a grader run",
        "openai",
        openai("/v1/fine_tuning/alpha/graders/run", {"grader": {"type": "score_model", "model": K}}),
        DENIED,
    )
    yield (
        "34",
        "a grader of several",
        "openai",
        openai("/v1/fine_tuning/alpha/graders/run", {"grader": {"type": "multi", "graders": {"x": {"model": K}}}}),
        DENIED,
    )
    yield (
        "34",
        "a fine-tune's grader",
        "openai",
        openai("/v1/fine_tuning/jobs", {"model": A, "method": {"reinforcement": {"grader": {"model": K}}}}),
        DENIED,
    )
    yield (
        "34",
        "an evaluation's criterion",
        "openai",
        openai("/v1/evals", {"testing_criteria": [{"model": A}, {"model": K}]}),
        DENIED,
    )
    yield (
        "18",
        "fine-tuning K",
        "openai",
        openai("/v1/fine_tuning/jobs", {"model": K, "training_file": "file-1"}),
        DENIED,
    )
    yield (
        "18",
        "fine-tuning a fine-tune of K",
        "openai",
        openai("/v1/fine_tuning/jobs", {"model": f"ft:{K}:acme::1", "training_file": "file-1"}),
        DENIED,
    )
    for name, value in (
        ("a stored prompt", {"prompt": {"id": "pmpt_1"}}),
        ("a prompt with variables", {"prompt": {"id": "pmpt_1", "variables": {"model": A}}}),
    ):
        yield "35", name, "openai", openai("/v1/responses", value), DENIED
    for value in (
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"previous_response_id": "resp_1", "background": True},
    ):
        yield "36", next(iter(value)), "openai", openai("/v1/responses", {"input": "Hi", **value}), DENIED
    yield "11", "images without a model", "openai", openai("/v1/images/generations", {"prompt": "x"}), DENIED
    yield (
        "30",
        "images' svg",
        "openai",
        openai("/v1/images/generations", {"prompt": "x", "model": "omni-moderation", "svg": {"model": K}}),
        DENIED,
    )
    yield "11", "a video without a model", "openai", openai("/v1/videos", {"prompt": "x"}), DENIED
    for path, body in (
        ("/v1/threads/runs", {"assistant_id": "asst_1"}), ("/v1/threads/t_1/runs", {"assistant_id": "asst_1"}),
        ("/v1/threads/t_1/runs/r_1/submit_tool_outputs", {"tool_outputs": []}), ("/v1/threads/t_1/runs", {"assistant_id": "asst_1", "model": K}),
        ("/v1/threads/runs", {"assistant_id": "asst_1", "model": K}),
    ):  # fmt: skip
        yield "37", f"{path} {'K' if 'model' in body else ''}", "openai", openai(path, body), DENIED
    for path in (
        "/v1/threads/t_1/messages",
        "/v1/threads/t_1/runs/r_1/steps",
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/input_items",
        "/v1/files/file-1/content",
        "/v1/chat/completions/c_1",
        "/v1/chat/completions/c_1/messages",
        "/v1/chat/completions",
        "/v1/conversations/conv_1/items",
        "/v1/evals/e_1/runs/r_1/output_items",
        "/v1/containers/c_1/files/f_1/content",
    ):
        yield "73", path, "openai", request("openai", path), DENIED
    for path in (
        "/v1/messages/batches/b_1/results",
        "/v1/files/f_1/content",
        "/v1/sessions/s_1/events",
        "/v1/sessions/s_1/events/stream",
    ):
        yield "73", path, "anthropic", request("anthropic", path), DENIED
    for path in ("/v1/batches", "/v1/evals/e_1/runs", "/v1/fine_tuning/jobs/j_1/resume"):
        yield (
            "39",
            path,
            "openai",
            openai(path, {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
            DENIED,
        )
    for path in (
        "/v1/sessions",
        "/v1/sessions/s_1/events",
        "/v1/deployments",
        "/v1/deployments/d_1",
        "/v1/deployments/d_1/run",
        "/v1/deployments/d_1/unpause",
    ):
        yield "43", path, "anthropic", request("anthropic", path, {"agent": "agent_1"}), DENIED
    for value in (FABLE, {"id": FABLE}, {"id": FABLE, "effort": "high"}):
        yield "28", f"an agent of {value}", "anthropic", request("anthropic", "/v1/agents", {"model": value}), DENIED
        yield (
            "44",
            f"an agent changed to {value}",
            "anthropic",
            request("anthropic", "/v1/agents/a_1", {"model": value}),
            DENIED,
        )
        yield "43", f"a dream of {value}", "anthropic", request("anthropic", "/v1/dreams", {"model": value}), DENIED
    yield (
        "28",
        "an advisor on the roster",
        "anthropic",
        request("anthropic", "/v1/agents", {"model": OPUS, "multiagent": {"advisor": {"model": FABLE}}}),
        DENIED,
    )
    yield (
        "28",
        "a sub-agent on the roster",
        "anthropic",
        request("anthropic", "/v1/agents", {"model": OPUS, "multiagent": {"agents": [{"model": FABLE}]}}),
        DENIED,
    )
    yield (
        "10",
        "an agent's model with two ids",
        "anthropic",
        request("anthropic", "/v1/agents", f'{{"model":{{"id":"{OPUS}","id":"{FABLE}"}}}}'.encode()),
        MALFORMED,
    )
    yield "44", "an assistant of K", "openai", openai("/v1/assistants", {"model": K}), DENIED
    yield "44", "an assistant changed to K", "openai", openai("/v1/assistants/asst_1", {"model": K}), DENIED
    for agent in ("/v1/agents/completions", "/v1/conversations", "/v1/conversations/c_1"):
        yield "43", agent, "compatible", request("compatible", agent, {"agent_id": "ag_1", "messages": []}), DENIED
    for count in (1, 3, 200):
        good = [{"custom_id": str(n), "params": {"model": OPUS, "max_tokens": 9, "messages": []}} for n in range(count)]
        bad = {"custom_id": "k", "params": {"model": FABLE, "max_tokens": 9, "messages": []}}
        yield (
            "41",
            f"K last of {count + 1}",
            "anthropic",
            request("anthropic", "/v1/messages/batches", {"requests": [*good, bad]}),
            DENIED,
        )
        yield (
            "41",
            f"K first of {count + 1}",
            "anthropic",
            request("anthropic", "/v1/messages/batches", {"requests": [bad, *good]}),
            DENIED,
        )
        for name, more, statuses in (
            ("a fallback", {"fallbacks": [{"model": FABLE}]}, DENIED), ("default fallbacks", {"fallbacks": "default"}, DENIED),
            ("an advisor", {"tools": [{"type": "advisor_20260301", "model": FABLE}]}, DENIED), ("no model", {"model": None}, MALFORMED),
        ):  # fmt: skip
            one = {"custom_id": "k", "params": {"model": OPUS, "messages": [], **more}}
            yield (
                "41",
                f"{name} in one of {count + 1}",
                "anthropic",
                request("anthropic", "/v1/messages/batches", {"requests": [*good, one]}),
                statuses,
            )
        missing = {"custom_id": "k", "params": {"messages": []}}
        yield (
            "41",
            f"one of {count + 1} without a model",
            "anthropic",
            request("anthropic", "/v1/messages/batches", {"requests": [*good, missing]}),
            MALFORMED,
        )
    session = {"session": {"type": "realtime", "model": K}}
    for path, body, statuses in (
        ("/v1/realtime/client_secrets", session, DENIED), ("/v1/realtime/client_secrets", {"session": {"type": "realtime"}}, MALFORMED),
        ("/v1/realtime/client_secrets", {}, MALFORMED), ("/v1/realtime/sessions", {"model": K}, DENIED), ("/v1/realtime/sessions", {"voice": "x"}, DENIED),
        ("/v1/realtime/client_secrets", {"session": {"model": A, "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}}, DENIED),
        ("/v1/realtime/transcription_sessions", {"input_audio_transcription": {"model": "gpt-4o-transcribe"}}, DENIED),
        ("/v1/realtime/translations/client_secrets", session, DENIED), ("/v1/realtime/calls/c_1/accept", {"model": K}, DENIED),
    ):  # fmt: skip
        yield "51", f"{path} {json.dumps(body)[:40]}", "openai", openai(path, body), statuses
    yield (
        "49",
        "a call accepted without a model",
        "openai",
        openai("/v1/realtime/calls/c_1/accept", {"type": "realtime"}),
        DENIED,
    )


def _forms() -> Iterator[Row]:
    audio = part("file", b"RIFF\0\0", "Content-Type: audio/wav", more='; filename="a.wav"')
    held = "gpt-4o-transcribe"
    for path in ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/images/variations"):
        file = audio if "audio" in path else part("image", b"PNG", "Content-Type: image/png", more='; filename="a.png"')
        optional = "images" in path
        held = "gpt-image-1" if optional else "gpt-4o-transcribe"
        other = "omni-moderation"
        base = [file, part("model", held)]
        yield "30", f"K at {path}", "openai", posted("openai", path, form(*base)), DENIED
        yield "30", f"K before the file at {path}", "openai", posted("openai", path, form(*reversed(base))), DENIED
        yield (
            "11",
            f"no model at {path}",
            "openai",
            posted("openai", path, form(file)),
            DENIED if optional else MALFORMED,
        )
        for name, parts in (
            ("twice", [part("model", other), part("model", held)]), ("twice, reversed", [part("model", held), part("model", other)]),
            ("Model", [part("model", other), part("Model", held)]), ("model[]", [part("model", other), part("model[]", held)]),
            ("model[0]", [part("model[0]", held)]), ("MODEL alone", [part("MODEL", held)]), ("blank", [part("model ", held)]),
        ):  # fmt: skip
            yield "31", f"{name} at {path}", "openai", posted("openai", path, form(file, *parts)), MALFORMED
        for name, one in (
            ("a filename", part("model", held, more='; filename="x"')), ("filename*", part("model", held, more="; filename*=utf-8''x")),
            ("an encoded name", part("=?utf-8?B?bW9kZWw=?=", held)), ("a percent name", part("mod%65l", held)),
            ("base64", part("model", b"Z3B0", "Content-Transfer-Encoding: base64")), ("name*", part("x", held, more="; name*=utf-8''model")),
            ("two names", part("x", held, more='; name="model"')), ("another charset", part("model", held, "Content-Type: text/plain; charset=utf-16")),
            ("JSON's type", part("model", f'"{held}"', "Content-Type: application/json")), ("an unknown head", part("model", held, "X-Name: x")),
            ("two dispositions", part("x", held, 'Content-Disposition: form-data; name="model"')), ("a blank", part("model", f" {held}")),
            ("a line feed", part("model", f"{held}\n")), ("empty", part("model", "")), ("full width", part("model", held.replace("-", "\uff0d"))),
        ):  # fmt: skip
            yield "32", f"{name} at {path}", "openai", posted("openai", path, form(file, one)), MALFORMED
        good = form(file, part("model", held))
        nested = part("x", form(part("model", held)), "Content-Type: multipart/mixed; boundary=inner")
        for name, data in (
            ("a preamble", b"hello\r\n" + good), ("a blank preamble", b"\r\n" + good), ("an epilogue", good + b"x"), ("two forms", good + good),
            ("nested", form(file, part("model", other), nested)), ("no end", form(file, part("model", held), end=b"")), ("bare line feeds", good.replace(b"\r\n", b"\n")),
            ("blanks after the boundary", good.replace(b"xBOUNDARYx\r\n", b"xBOUNDARYx \r\n")), ("nothing", b""), ("only an end", form()),
            ("a boundary within", form(file, part("model", other), part("x", "\n--xBOUNDARYx\n"))), ("an early end", good + good[len(audio):]),
        ):  # fmt: skip
            yield "33", f"{name} at {path}", "openai", posted("openai", path, data), MALFORMED
        for boundary in (
            "",
            '""',
            "a;b",
            "x" * 71,
            "other",
            "xBOUNDARYx; boundary=other",
            "xBOUNDARYx; charset=utf-16",
        ):
            yield (
                "33",
                f"boundary {boundary[:12]!r} at {path}",
                "openai",
                posted("openai", path, good, boundary=boundary),
                (400, 415),
            )
    for name in ("svg[model]", "svg.model", "svg", "SVG[model]", "svg[Model]", "svg[model][]"):
        data = form(part("image", b"PNG", more='; filename="a.png"'), part("model", "omni-moderation"), part(name, K))
        yield (
            "30",
            name,
            "openai",
            posted("openai", "/v1/images/edits", data),
            DENIED if name == "svg[model]" else MALFORMED,
        )
    yield (
        "61",
        "a form where JSON is due",
        "openai",
        posted("openai", "/v1/chat/completions", form(part("model", A))),
        UNREAD,
    )
    yield (
        "61",
        "JSON where a form is due",
        "openai",
        request("openai", "/v1/audio/transcriptions", {"model": A}),
        UNREAD,
    )
    sdp = part("sdp", "v=0", "Content-Type: application/sdp")
    yield (
        "51",
        "a call's K",
        "openai",
        posted(
            "openai",
            "/v1/realtime/calls",
            form(sdp, part("session", json.dumps({"model": K}), "Content-Type: application/json")),
        ),
        DENIED,
    )
    yield (
        "51",
        "a call's K twice",
        "openai",
        posted("openai", "/v1/realtime/calls", form(sdp, part("session", f'{{"model":"{A}","model":"{K}"}}'))),
        MALFORMED,
    )
    yield "49", "a call of nothing", "openai", posted("openai", "/v1/realtime/calls", form(sdp)), DENIED


def _files() -> Iterator[Row]:
    def line(model: str, url: str = "/v1/chat/completions", **more: Any) -> str:
        return json.dumps(
            {"custom_id": "1", "method": "POST", "url": url, "body": {"model": model, "messages": [], **more}}
        )

    def upload(content: str | bytes, purpose: str = "batch", *more: bytes) -> bytes:
        file = part("file", content, "Content-Type: application/jsonl", more='; filename="b.jsonl"')
        return posted("openai", "/v1/files", form(part("purpose", purpose), file, *more))

    good = line(A)
    for count in (0, 1, 50, 2000):
        yield "38", f"K behind {count} lines", "openai", upload("\n".join([good] * count + [line(K)])), DENIED
        yield (
            "38",
            f"K behind {count} lines, ended",
            "openai",
            upload("\n".join([good] * count + [line(K)]) + "\n"),
            DENIED,
        )
        yield "38", f"K before {count} lines", "openai", upload("\n".join([line(K)] + [good] * count)), DENIED
    for name, one in (
        ("moderation", line(A, moderation={"model": K})), ("an image tool", line(A, "/v1/responses", tools=[{"type": "image_generation"}])),
        ("an image tool's K", line(A, "/v1/responses", tools=[{"type": "image_generation", "model": "gpt-image-1"}])),
        ("capitals", line(K.upper())), ("a fine-tune", line(f"ft:{K}:acme::1")), ("no model", json.dumps({"url": "/v1/responses", "body": {"prompt": {"id": "p"}}})),
    ):  # fmt: skip
        yield "38", f"{name} in a line", "openai", upload(f"{good}\n{one}\n"), DENIED
    yield "38", "an unknown model in a line", "openai", upload(f"{good}\n{line('gpt-none')}\n"), UNKNOWN
    for name, content in (
        ("byte order mark", b"\xef\xbb\xbf" + good.encode()), ("CRLF", f"{good}\r\n{good}\r\n"), ("blank line", f"{good}\n\n{good}"), ("blanks", f"{good}\n  \n"),
        ("model twice", good.replace(f'"model": "{A}"', f'"model": "{A}", "model": "{K}"')), ("Model", good.replace('"model"', '"Model"')),
        ("body twice", good[:-1] + f', "body": {{"model": "{K}"}}}}'), ("Body", good[:-1] + f', "Body": {{"model": "{K}"}}}}'),
        ("two on a line", good + good), ("a list", f"[{good}]"), ("carriage return", f"{good}\r{line(K)}"), ("a line separator", good[:-1] + ', "x": "\u2028"}'),
        ("empty", ""), ("UTF-16", good.encode("utf-16")), ("cut", good[:-1]), ("NaN", good.replace('"1"', "NaN")), ("not JSON", "hello"),
        ("escaped key", good.replace('"model"', '"mod\\u0065l": "' + K + '", "model"')),
    ):  # fmt: skip
        yield "40", name, "openai", upload(content), MALFORMED
    for purpose in ("Batch", "batch ", " batch", "BATCH", "", "b\u0430tch"):
        yield "38", f"purpose {purpose!r}", "openai", upload(line(K), purpose), MALFORMED
    yield "38", "two purposes", "openai", upload(line(K), "fine-tune", part("purpose", "batch")), MALFORMED
    yield "38", "two files", "openai", upload(good, "batch", part("file", line(K), more='; filename="c"')), MALFORMED
    yield (
        "38",
        "no purpose",
        "openai",
        posted("openai", "/v1/files", form(part("file", line(K), more='; filename="c"'))),
        MALFORMED,
    )
    yield "61", "a file as JSON", "openai", request("openai", "/v1/files", {"purpose": "batch"}), UNREAD


PLAIN_KEYS = ("key=demo-bob", "key=demo-alice", "alt=sse&key=demo-bob")
"""Keys as a REST client of Gemini's sends them: they count, and are no way to a model that is off."""

KEYS_IN_QUERIES = (
    *PLAIN_KEYS, "KEY=demo-bob", "access_token=demo-bob", "key", "key=", "key=demo-bob&key=demo-alice",
    "key=demo-alice&key=demo-alice", "key=%64emo-alice", "%6bey=demo-alice", "key=demo-alice&access_token=x",
)  # fmt: skip


def cases() -> Iterator[Case]:
    """All of them."""
    for rows in (_bedrock(), _google(), _nested(), _forms(), _files()):
        for row, name, provider, data, statuses in rows:
            yield Case(row, f"{provider} {name}", provider, data, statuses)
