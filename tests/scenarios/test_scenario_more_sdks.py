"""Google's, Amazon's and Mistral's SDKs, only address and key changed: answers, streams, lists, and a model that is off."""

import warnings

import anthropic
import boto3
import botocore
import botocore.config
import botocore.exceptions
import pytest
import websockets
from certificates import Authority
from system import new_system

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # google-genai's and mistralai's own
    from google import genai
    from google.genai import errors, types
    from mistralai.client import Mistral
    from mistralai.client.errors import SDKError

PROMPT = "Say something kind."
TURN = [{"role": "user", "content": [{"text": PROMPT}]}]
OPUS, FABLE = "us.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic.claude-fable-5-20260324-v1:0"
SLOW = {"X-Sim-Interval": "0.05", "X-Sim-Events": "2000"}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def google(system, through: bool = True, **headers: str) -> genai.Client:
    base, key = (system.proxy, "demo-alice") if through else (system.simulator, "sim-key")
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=f"{base}/gemini", headers=headers or None))


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority):
    """A system that speaks TLS to its clients: boto3 sends a bearer key no other way."""
    pair = authority.issue("gate")
    system = new_system(
        PORTCULLIS_PROXY__TLS__CERTIFICATE=str(pair.certificate), PORTCULLIS_PROXY__TLS__KEY=str(pair.key)
    )
    try:
        system.start()
        system.proxy = system.proxy.replace("http:", "https:")
        yield system
    finally:
        system.stop()


@pytest.fixture
async def bedrock(secure, authority, monkeypatch):
    """Makes clients of bedrock-runtime, through the gateway; and says what they sent."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "demo-alice")

    def make(headers: dict[str, str] | None = None):
        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=f"{secure.proxy}/bedrock",
            verify=str(authority.file),
        )
        sent = []

        def note(request, **_):
            sent.append(request.url)
            for name, value in (headers or {}).items():
                request.headers[name] = value

        client.meta.events.register("before-send.bedrock-runtime", note)
        return client, sent

    yield make
    await secure.release_all()


@pytest.fixture
async def live(secure, authority):
    """Makes clients of Gemini's Live API: the SDK opens its WebSockets by TLS alone."""

    def make(key: str = "demo-alice", **headers: str) -> genai.Client:
        trusting = {"ssl": authority.trusted()}
        options = types.HttpOptions(
            base_url=f"{secure.proxy}/gemini", headers=headers or None, async_client_args=trusting
        )
        return genai.Client(api_key=key, http_options=options)

    yield make
    await secure.release_all()


def straight_to_bedrock(system):
    """The same client, at the simulator itself, to which the key is added by hand: it speaks no TLS."""
    unsigned = botocore.config.Config(signature_version=botocore.UNSIGNED)
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=f"{system.simulator}/bedrock", config=unsigned
    )

    def add_key(request, **_):
        request.headers["Authorization"] = "Bearer sim-key"

    client.meta.events.register("before-send.bedrock-runtime", add_key)
    return client


def mistral(system, through: bool = True) -> Mistral:
    base, key = (system.proxy, "demo-alice") if through else (system.simulator, "sim-key")
    return Mistral(api_key=key, server_url=f"{base}/compatible")


def google_calls(client: genai.Client):
    flash = "gemini-3-flash"
    return {
        "generate": lambda: client.models.generate_content(model=flash, contents=PROMPT).model_dump(exclude={"sdk_http_response"}),
        "stream": lambda: [part.model_dump(exclude={"sdk_http_response"}) for part in client.models.generate_content_stream(model=flash, contents=PROMPT)],
        "count": lambda: client.models.count_tokens(model=flash, contents=PROMPT).total_tokens,
        "embed": lambda: [one.values for one in client.models.embed_content(model=flash, contents=["a", "b"]).embeddings],
        "list": lambda: [model.name for model in client.models.list()],
        "get": lambda: client.models.get(model=flash).display_name,
    }  # fmt: skip


def bedrock_calls(client):
    def without_meta(answer):
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    body = b'{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
    return {
        "converse": lambda: without_meta(client.converse(modelId=OPUS, messages=TURN)),
        "converse_stream": lambda: list(client.converse_stream(modelId=OPUS, messages=TURN)["stream"]),
        "invoke": lambda: bytes(client.invoke_model(modelId=OPUS, body=body)["body"].read()),
        "invoke stream": lambda: list(client.invoke_model_with_response_stream(modelId=OPUS, body=body)["body"]),
        "count": lambda: without_meta(client.count_tokens(modelId=OPUS, input={"converse": {"messages": TURN}})),
    }


def mistral_calls(client: Mistral):
    asked = {"model": "mistral-large", "messages": [{"role": "user", "content": PROMPT}]}
    return {
        "complete": lambda: client.chat.complete(**asked).model_dump(),
        "stream": lambda: [event.data.model_dump() for event in client.chat.stream(**asked)],
    }


@pytest.mark.parametrize("name", ["generate", "stream", "count", "embed", "list", "get"])
def test_google_genai_gives_the_same_objects(module_system, name):
    clients = [google(module_system, way) for way in (True, False)]
    through, directly = (google_calls(client)[name]() for client in clients)
    assert through == directly
    assert through


@pytest.mark.parametrize("name", ["converse", "converse_stream", "invoke", "invoke stream", "count"])
async def test_boto3_gives_the_same_objects(secure, bedrock, name):
    through, directly = (bedrock_calls(client)[name]() for client in (bedrock()[0], straight_to_bedrock(secure)))
    assert through == directly
    assert through


@pytest.mark.parametrize("name", ["complete", "stream"])
def test_mistralai_gives_the_same_objects(module_system, name):
    through, directly = (mistral_calls(mistral(module_system, way))[name]() for way in (True, False))
    assert through == directly
    assert through


async def test_a_gemini_that_is_off_is_the_sdks_own_exception(system):
    await system.offline("gemini-3-flash")
    client = google(system)
    for name, call in google_calls(client).items():
        if name == "list":
            assert call() == ["models/gemini-3-pro"]
            continue
        with pytest.raises(errors.ClientError) as refused:
            call()
        assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")
        assert "gemini-3-flash is offline for everyone" in refused.value.message


async def test_a_mistral_that_is_off_is_the_sdks_own_exception(system):
    await system.offline("mistral-large")
    for call in mistral_calls(mistral(system)).values():
        with pytest.raises(SDKError) as refused:
            call()
        assert refused.value.status_code == 403
        assert "mistral-large is offline for everyone" in refused.value.body


async def test_mistrals_list_has_what_the_caller_may_use(system):
    def listed() -> list[str]:
        return [model.id for model in mistral(system).models.list().data]

    assert listed() == ["mistral-large"], "the catalog has no gpt-oss, which the provider lists, too"
    await system.offline("mistral-large")
    assert listed() == []


async def test_a_bedrock_model_that_is_off_is_the_sdks_own_exception_and_asked_for_once(secure, bedrock):
    await secure.offline("claude-opus-4-5")
    client, sent = bedrock()
    for call in bedrock_calls(client).values():
        sent.clear()
        with pytest.raises(client.exceptions.AccessDeniedException) as denied:
            call()
        assert "claude-opus-4-5 is offline for everyone" in denied.value.response["Error"]["Message"]
        assert denied.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert len(sent) == 1, "it is not retried"


async def test_a_gemini_stream_that_is_cut_raises(system):
    client = google(system, **SLOW)
    stream = client.models.generate_content_stream(model="gemini-3-flash", contents=PROMPT)
    assert next(stream).text
    await system.offline("gemini-3-flash")
    with pytest.raises(errors.ClientError) as cut:
        list(stream)
    assert cut.value.code == 403


async def said_live(client: genai.Client) -> list[types.LiveServerMessage]:
    """What a Live session says to one turn of the user's."""
    async with client.aio.live.connect(model="gemini-3-flash", config={"response_modalities": ["TEXT"]}) as session:
        assert session.setup_complete is not None
        await session.send_client_content(turns={"role": "user", "parts": [{"text": PROMPT}]})
        return [message async for message in session.receive()]


async def asked_for(system, model: str) -> int:
    """How often the simulator has been asked for a model of Gemini's; a handshake names none."""
    return (await system.simulated("/_sim/stats"))["by_model"].get("gemini", {}).get(model, 0)


async def test_a_live_session_says_what_the_model_says(live):
    *said, last = await said_live(live(**{"X-Sim-Events": "5"}))
    assert len([message.text for message in said if message.text]) == 5
    assert last.server_content.turn_complete


async def test_a_live_session_with_a_model_that_is_off_is_the_sdks_own_exception(secure, live):
    await secure.offline("gemini-3-flash")
    before = await asked_for(secure, "gemini-3-flash")
    with pytest.raises(errors.APIError, match="gemini-3-flash is offline for everyone") as refused:
        await said_live(live())
    assert refused.value.code == 1008
    assert await asked_for(secure, "gemini-3-flash") == before


async def test_a_live_session_that_is_cut_raises(secure, live):
    async with live(**SLOW).aio.live.connect(model="gemini-3-flash") as session:
        await session.send_client_content(turns={"role": "user", "parts": [{"text": PROMPT}]})
        messages = session.receive()
        assert (await anext(messages)).text
        await secure.offline("gemini-3-flash")
        with pytest.raises(errors.ClientError, match="gemini-3-flash is offline for everyone") as cut:
            [message async for message in messages]
        assert cut.value.code == 403


async def test_a_live_session_without_a_valid_key_is_not_opened(live):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        await said_live(live("demo-nobody"))
    assert refused.value.response.status_code == 401


async def test_a_bedrock_stream_that_is_cut_raises(secure, bedrock):
    client, _ = bedrock(SLOW)
    events = iter(client.converse_stream(modelId=OPUS, messages=TURN)["stream"])
    assert "messageStart" in next(events)
    assert "contentBlockDelta" in next(events)
    await secure.offline("claude-opus-4-5")
    with pytest.raises(botocore.exceptions.EventStreamError) as raised:
        list(events)
    assert "AccessDeniedException" in str(raised.value)
    assert "claude-opus-4-5 is offline" in str(raised.value)


async def test_one_kill_closes_all_routes_of_a_model(secure, bedrock, authority):
    """Anthropic's own API, Bedrock's names of every region and form: one call closes them."""
    regions = [f"{region}.{FABLE}" for region in ("us", "eu", "apac", "global")]
    names = [FABLE, *regions, f"arn:aws:bedrock:us-east-1::foundation-model/{FABLE}"]
    client, sent = bedrock()
    trusted = anthropic.DefaultHttpxClient(verify=authority.trusted())
    asked = {"model": "claude-fable-5", "max_tokens": 9, "messages": [{"role": "user", "content": PROMPT}]}
    with anthropic.Anthropic(base_url=f"{secure.proxy}/anthropic", api_key="demo-alice", http_client=trusted) as claude:
        assert claude.messages.create(**asked).content
        for name in names:
            assert client.converse(modelId=name, messages=TURN)["output"]
        await secure.offline("claude-fable-5", order={"authority": "BIS", "reference": "2026-1"})
        with pytest.raises(anthropic.APIStatusError) as refused:
            claude.messages.create(**asked)
        assert refused.value.status_code == 451
    sent.clear()
    for name in names:
        with pytest.raises(client.exceptions.AccessDeniedException) as denied:
            client.converse(modelId=name, messages=TURN)
        assert denied.value.response["ResponseMetadata"]["HTTPStatusCode"] == 451
    assert len(sent) == len(names)
    assert client.converse(modelId=OPUS, messages=TURN)["output"], "its neighbour is unhurt"
