"""People by the tokens of their identity provider, end users by the word of their service."""

import asyncio
import time

import anthropic
import pytest
from issuing import AUDIENCE, ISSUER, Key, KeyServer, claims, unsigned
from raw import Raw, ask
from system import new_system

MESSAGES = [{"role": "user", "content": "Tell me a story."}]
KEY, ACME = Key("k1"), Key("acme-1", "Ed25519")
US_ONLY = {"models": ["claude-fable-5"], "who": {"not": {"nationality": {"any_of": ["US"]}}}, "state": "in_force"}
PACED = {"X-Sim-Interval": "0.05", "X-Sim-Events": "400"}


@pytest.fixture(scope="module")
def issuer():
    with KeyServer(KEY) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(issuer):
    """A system that believes the issuer, with a model for US nationals only, and an organisation with a key."""
    corp = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, "JWKS_URL": issuer.url, "CLAIMS__LEGAL_STATUS": "status"}
    system = new_system(**{f"PORTCULLIS_ISSUERS__CORP__{name}": value for name, value in corp.items()})
    try:
        system.start()
        asyncio.run(create(system, "directives/us-only", US_ONLY))
        asyncio.run(create(system, "orgs/acme", org(ACME)))
        yield system
    finally:
        system.stop()


def org(*keys):
    return {"keys": {key.kid: {k: v for k, v in key.public().items() if k != "kid"} for key in keys}}


async def create(system, path, body):
    answer = await system.ask_admin("PUT", f"/api/v1/{path}", body, headers={"If-None-Match": "*"})
    assert answer.status in (200, 201), answer.json
    assert answer.json["enforced"], answer.json


def story(model="claude-fable-5"):
    return {"model": model, "max_tokens": 999, "stream": True, "messages": MESSAGES}


async def send(system, credential, headers=None, raw=None, model="claude-fable-5"):
    return await ask(
        system.proxy, "/anthropic/v1/messages", story(model), {"x-api-key": credential, **(headers or {})}, raw
    )


def on_behalf(azp="demo-acme", **fields):
    now = int(time.time())
    said = {"iss": "acme", "aud": "scenario", "azp": azp, "sub": "user-17", "iat": now, "exp": now + 600, **fields}
    return {"Portcullis-On-Behalf-Of": ACME.sign(claims(**said), typ="portcullis-obo+jwt")}


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"nationalities": ["USA", "FRA"]}, None), ({"nationalities": ["GBN"]}, "restricted"),
     ({"nationalities": ...}, "attribute_unknown"),
     ({"nationalities": ..., "verified_claims": {"verification": {}, "claims": {"nationalities": ["US"]}}}, None)],
    ids=["US and FR", "GB", "not known", "verified"],
)  # fmt: skip
async def test_the_official_sdk_with_a_token_for_a_key(guarded, said, reason):
    token = KEY.sign(claims(**said))
    async with anthropic.AsyncAnthropic(base_url=f"{guarded.proxy}/anthropic", api_key=token, max_retries=0) as client:
        if reason is None:
            assert (await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)).content
            return
        with pytest.raises(anthropic.PermissionDeniedError) as raised:
            await client.messages.create(model="claude-fable-5", max_tokens=9, messages=MESSAGES)
        assert raised.value.response.headers["portcullis-reason"] == reason


async def test_attacks_get_401_and_the_provider_hears_nothing(guarded, issuer):
    before = (await guarded.simulated("/_sim/stats"))["total"]
    attacks = [
        unsigned({"alg": "none", "kid": "k1"}, claims()),
        unsigned({"alg": "HS256", "kid": "k1"}, claims(), b"x" * 32),
        Key("k1").sign(claims()),
        KEY.sign(claims(aud="x")),
        KEY.sign(claims(iss="https://evil.example")),
        KEY.sign(claims(exp=time.time() - 60)),
        KEY.sign(claims(nationalities=[])),
        KEY.sign(claims(nationalities=840)),
        KEY.sign(claims(), jku="https://evil.example"),
        *(unsigned({"alg": "RS256", "kid": f"flood-{n}"}, claims(), b"x") for n in range(200)),
    ]
    hits = issuer.hits
    for answer in await asyncio.gather(*(send(guarded, token) for token in attacks)):
        assert (answer.status, answer.header("portcullis-reason")) == (401, "unauthenticated")
    assert issuer.hits - hits <= 2, "at most once for each of two workers"
    bad = [
        ("demo-acme", on_behalf(azp="demo-alice")),
        ("demo-alice", on_behalf(azp="demo-alice")),
        ("demo-acme", on_behalf(aud="other")),
        ("demo-acme", {"Portcullis-On-Behalf-Of": Key("acme-1", "Ed25519").sign(claims())}),
        (KEY.sign(claims()), {"Portcullis-Key": "demo-alice"}),
    ]
    for credential, headers in bad:
        assert (await send(guarded, credential, headers)).status == 401
    assert (await guarded.simulated("/_sim/stats"))["total"] == before


async def test_the_end_users_nationality_counts(guarded):
    assert (await send(guarded, "demo-acme", on_behalf(nationalities=["US"]))).status == 200
    refused = await send(guarded, "demo-acme", on_behalf(nationalities=["CHN"]))
    assert (refused.status, refused.header("portcullis-reason")) == (403, "restricted")
    assert (await send(guarded, "demo-acme")).header("portcullis-reason") == "attribute_unknown"


async def test_a_stream_ends_when_its_token_does_if_the_policy_needs_what_it_said(guarded):
    needed, idle = Raw(), Raw()
    token = KEY.sign(claims(exp=time.time() - 30 + 1.5))
    streams = [
        asyncio.create_task(send(guarded, token, PACED, needed)),
        asyncio.create_task(send(guarded, token, {**PACED, "X-Sim-Events": "60"}, idle, "claude-opus-4-5")),
    ]
    await asyncio.wait_for(asyncio.gather(needed.began.wait(), idle.began.wait()), 10)
    await asyncio.wait_for(asyncio.gather(*streams), 20)
    assert needed.ended in ("cut", "reset")
    assert needed.ended == "reset" or b"attribute_unknown" in needed.body
    assert idle.ended == "complete"
    assert (await send(guarded, token)).status == 401


async def test_streams_end_with_the_key_that_spoke_for_their_users(guarded):
    raw = Raw()
    stream = asyncio.create_task(send(guarded, "demo-acme", {**PACED, **on_behalf()}, raw))
    await asyncio.wait_for(raw.began.wait(), 10)
    found = await guarded.ask_admin("GET", "/api/v1/orgs/acme")
    answer = await guarded.ask_admin(
        "PUT", "/api/v1/orgs/acme", org(), headers={"If-Match": found.headers["ETag"]}, token="demo-approver"
    )
    assert answer.status == 200, answer.json
    assert answer.json["streams_cut"] == 1
    await asyncio.wait_for(stream, 5)
    assert raw.ended in ("cut", "reset")
    assert (await send(guarded, "demo-acme", on_behalf())).status == 401


async def test_logs_hold_pseudonyms_and_nothing_else_of_a_person(guarded):
    lines = guarded.events("request")
    assert {len(line["caller"]) for line in lines if line["caller"]} == {16}
    assert any("end_user" in line for line in lines)
    text = (guarded.directory / "gateway.log").read_text()
    for secret in ("eyJ", "user-17", '"alice"', "nationalit", "CHN", "GBN"):
        assert secret not in text, secret
