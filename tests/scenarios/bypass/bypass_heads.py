"""Rows 50 and 53 to 74: targets, headers and framing."""

from collections.abc import Iterator

from bypass_requests import AUTH, DENIED, MALFORMED, SDK, UNKNOWN, Case, Target, request

REFUSED = (400, 404)
OVERRIDES = (
    "X-HTTP-Method-Override: GET", "X-HTTP-Method: GET", "X-Method-Override: PUT", "X_HTTP_METHOD_OVERRIDE: GET", "X-Model-Override: K",
    "azureml-model-deployment: blue", "X-Amzn-SageMaker-Target-Model: K", "X-Amzn-SageMaker-Target-Variant: K", "X_Model_Override: K",
)  # fmt: skip


def _targets(t: Target) -> Iterator[tuple[str, str, bytes, tuple[int, ...]]]:
    body = t.body(t.named(t.allowed))
    segments = t.path.strip("/").split("/")
    last = segments[-1]

    def to(path: str) -> bytes:
        return request(t.provider, path, body)

    for query in (
        f"model={t.allowed}&model={t.denied}",
        f"MODEL={t.denied}",
        f"%6dodel={t.denied}",
        f"mod%65l={t.denied}",
        "model",
        f"x=1&model={t.denied}",
        f"model_id={t.denied}",
        f"session[model]={t.denied}",
        f"model%5B%5D={t.denied}",
        f"override-model={t.denied}",
    ):
        yield "50", query[:14], to(f"{t.path}?{query}"), MALFORMED
    for name, path in (
        ("dots", f"/x/..{t.path}"), ("encoded dots", f"/x/%2e%2e{t.path}"), ("half encoded dots", f"/x/.%2e{t.path}"), ("two slashes", "/" + t.path),
        ("two slashes within", t.path.replace("/v1", "/v1/", 1) if "/v1/" in t.path else f"/{t.path}"), ("trailing slash", t.path + "/"), ("backslash", t.path.replace("/", "\\")),
        ("single dot", f"/.{t.path}"), ("capitals", t.path.upper()), ("trailing dot", t.path + "/."),
    ):  # fmt: skip
        yield "53", name, to(path), REFUSED
    for name, path in (
        ("encoded slash", t.path.replace(f"/{last}", f"%2f{last}")), ("twice encoded slash", t.path.replace(f"/{last}", f"%252f{last}")), ("NUL", t.path + "%00"),
        ("overlong", t.path + "%c0%af"), ("encoded letter", t.path[:-1] + f"%{ord(t.path[-1]):02x}"), ("encoded blank", t.path + "%20"), ("line feed", t.path + "%0a"),
        ("encoded colon", t.path + "%3a"),
    ):  # fmt: skip
        yield "54", name, to(path), MALFORMED
    yield "55", "parameters", to(t.path + ";x=1"), MALFORMED
    yield (
        "55",
        "parameters within",
        to(t.path.replace("/", ";v=1/", 1) if t.path.count("/") > 1 else t.path + ";"),
        MALFORMED,
    )
    whole = f"/{t.provider}{t.path}"
    for name, line, more in (
        ("fragment", f"POST {whole}#x HTTP/1.1", ()), ("absolute form", f"POST http://gateway{whole} HTTP/1.1", ()),
        ("foreign authority", f"POST http://evil.example{whole} HTTP/1.1", ()), ("second Host", f"POST {whole} HTTP/1.1", ("Host: evil.example",)),
        ("a user in the host", f"POST {whole} HTTP/1.1", ("Host: a@b",)), ("authority form", f"POST gateway:80{whole} HTTP/1.1", ()),
    ):  # fmt: skip
        yield "56", name, request(t.provider, t.path, body, *more, line=line), MALFORMED
    for header in OVERRIDES:
        yield (
            "59" if "M" in header[:8] and "ethod" in header.lower() else "60",
            header,
            request(t.provider, t.path, body, header),
            MALFORMED,
        )
    for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"):
        yield "64", version, request(t.provider, t.path, body, line=f"POST {whole} {version}"), (400, 505)
    for name, headers in (
        ("length and coding", ("Transfer-Encoding: chunked",)), ("two lengths", ("Content-Length: 3",)), ("coding unknown", ("Transfer-Encoding: gzip, chunked",)),
        ("folded", ("X-A: 1\r\n b",)), ("blank before the colon", ("X-A : 1",)), ("NUL", ("X-A: \0",)), ("no name", (": x",)),
    ):  # fmt: skip
        yield "64", name, request(t.provider, t.path, body, *headers), MALFORMED
    sent = request(t.provider, t.path, body)
    length = f"Content-Length: {len(body)}".encode()
    for bad in (b"+5", b"0_2", b"-1", b"0x5", b"5, 5", b"", b" 5 5"):
        yield "64", f"length {bad.decode()!r}", sent.replace(length, b"Content-Length: " + bad), MALFORMED
    yield "64", "bare line feeds", sent.replace(b"\r\n", b"\n"), MALFORMED
    chunked = sent.replace(length, b"Transfer-Encoding: chunked")[: -len(body)]
    denied = t.body(t.named(t.denied))
    yield "64", "K with a chunk extension", chunked + b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(denied), denied), (400, 451)
    yield "64", "K with a trailer", chunked + b"%x\r\n%b\r\n0\r\nX-Model: a\r\n\r\n" % (len(denied), denied), (400, 451)
    yield "64", "K in chunks", chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in denied) + b"0\r\n\r\n", DENIED
    yield "64", "a size that is none", chunked + b"zz\r\n{}\r\n0\r\n\r\n", MALFORMED
    yield "64", "a chunk that is longer", chunked + b"2\r\n{}}\r\n0\r\n\r\n", MALFORMED
    for upgrade in ("h2c", "websocket", "TLS/1.0"):
        yield (
            "66",
            f"Upgrade: {upgrade}",
            request(t.provider, t.path, denied, "Connection: Upgrade", f"Upgrade: {upgrade}"),
            DENIED,
        )
    yield "66", "CONNECT", b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example\r\n\r\n", REFUSED
    for name, headers in (
        ("two keys", ("Portcullis-Key: demo-bob",)), ("two keys of one place", ("Authorization: Bearer demo-bob", "x-api-key: demo-bob", "api-key: demo-bob", "x-goog-api-key: demo-bob")),
    ):  # fmt: skip
        yield "72", name, request(t.provider, t.path, body, *headers), (400, 401)
    for header in (
        "Portcullis-Nationality: US",
        "Portcullis-Revision: 1",
        "X-Nationality: US",
        "Portcullis-Allow: true",
        "X-Portcullis-Bypass: 1",
        "portcullis-models: A",
        "X-Forwarded-Host: api.example",
        "X-Original-URL: /openai/v1/models",
        "X-Rewrite-URL: /openai/v1/models",
        "Forwarded: host=x",
    ):
        yield "74", header, request(t.provider, t.path, denied, header), DENIED
    yield (
        "74",
        "Portcullis-On-Behalf-Of",
        request(t.provider, t.path, denied, "Portcullis-On-Behalf-Of: demo-bob"),
        (401,),
    )


def _surfaces() -> Iterator[tuple[str, str, str, bytes, tuple[int, ...]]]:
    for provider, paths in {
        "openai": ("/chat/completions", "/v2/chat/completions", "/v1/engines/gpt-5.4/completions", "/v1/edits", "/openai/v1/chat/completions", "/v1/answers",
                   "/v1/live/sessions", "/v1/agents", "/v1/chatkit/sessions", "/v1/organization/users", "/v1/audio/voices", "/v1/skills", "/backend-api/codex/responses"),
        "anthropic": ("/v1/complete", "/v2/messages", "/v1/chat/completions", "/v1/organizations/users", "/v1/skills", "/v1/messages/stream", "/v1/embeddings"),
        "gemini": ("/v1beta2/models/x:generateText", "/v1alpha/models/x:generateContent", "/v1beta/models/x:bidiGenerateContent", "/v1beta/corpora", "/upload/v1beta/files",
                   "/v1beta/models/x:generateMessage", "/v1beta/openai/responses", "/v1beta/cachedContents/x:generate"),
        "bedrock": ("/model/x/chat", "/v1/messages", "/agents", "/knowledgebases", "/openai/v1/responses", "/model/x/invoke-with-bidirectional-stream"),
        "compatible": ("/api/generate", "/api/chat", "/api/create", "/api/copy", "/api/pull", "/api/push", "/api/delete", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
                       "/model/new", "/model/update", "/key/generate", "/v1/messages", "/invocations", "/pooling", "/collective_rpc", "/v1/fine_tuning/jobs"),
        "vertex": ("/v1/projects/p/locations/l/publishers/google/models/x:unknown", "/v1/projects/p/locations/l/endpoints", "/v1/projects/p/locations/l/models:upload"),
        "azure": ("/openai/deployments", "/openai/fine_tuning/jobs", "/openai/deployments/prod/extensions/chat/completions", "/openai/v1/chat/completions", "/openai/assistants"),
    }.items():  # fmt: skip
        for path in paths:
            rows = (
                "68"
                if any(word in path for word in ("create", "copy", "pull", "lora", "model/", "push", "upload"))
                and provider != "bedrock"
                else "57"
            )
            yield rows, path, provider, request(provider, path, {"model": "gpt-5.4", "name": "gpt-5.4"}), UNKNOWN
    for provider in AUTH:
        for path in (
            "/google.ai.generativelanguage.v1beta.GenerativeService/GenerateContent",
            "/$rpc/google.ai.v1/X",
            "/batch",
            "/batch/v1beta",
            "/graphql",
        ):
            yield "58", path, provider, request(provider, path, b"\0\0\0\0\5hello", kind="application/grpc"), REFUSED
            yield (
                "58",
                f"{path} web",
                provider,
                request(provider, path, b"\0\0\0\0\5hello", kind="application/grpc-web+proto"),
                REFUSED,
            )
        yield (
            "57",
            "no such provider",
            provider,
            request(provider, "/v1/messages", {"model": "x"}, line="POST /nobody/v1/messages HTTP/1.1"),
            UNKNOWN,
        )
        yield (
            "57",
            "another host",
            provider,
            request(provider, "/v1/messages", {"model": "x"}, line="POST /v1/messages HTTP/1.1"),
            UNKNOWN,
        )


def cases() -> Iterator[Case]:
    """All of them."""
    for target in SDK:
        for row, name, data, statuses in _targets(target):
            yield Case(row, f"{target.provider} {target.path}: {name}", target.provider, data, statuses)
    for row, name, provider, data, statuses in _surfaces():
        yield Case(row, f"{provider} {name}", provider, data, statuses)
