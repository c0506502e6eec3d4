"""People by the tokens of their identity provider, end users by the word of their service."""

import asyncio
import hmac
import re
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import anthropic
import pytest
from issuing import AUDIENCE, ISSUER, Key, KeyServer, claims, segment, unsigned
from raw import Raw, ask
from system import System, new_system
from system import until as system_until

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


def on_behalf(azp="demo-acme", key=ACME, **fields):
    now = int(time.time())
    said = {"iss": "acme", "aud": "scenario", "azp": azp, "sub": "user-17", "iat": now, "exp": now + 600, **fields}
    return {"Portcullis-On-Behalf-Of": key.sign(claims(**said), typ="portcullis-obo+jwt")}


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


def shared_secret(secret):
    """A token signed with HS256 under what is no secret: the issuer's public key."""
    signed = unsigned({"alg": "HS256", "kid": "k1"}, claims()).rpartition(".")[0]
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"


async def test_attacks_get_401_and_the_provider_hears_nothing(guarded, issuer):
    before = (await guarded.simulated("/_sim/stats"))["total"]
    attacks = [
        unsigned({"alg": "none", "kid": "k1"}, claims()),
        unsigned({"alg": "HS256", "kid": "k1"}, claims(), b"x" * 32),
        shared_secret(KEY.key.as_pem(private=False)),
        Key("k1").sign(claims()),
        KEY.sign(claims(aud="x")),
        KEY.sign(claims(iss="https://evil.example")),
        KEY.sign(claims(exp=time.time() - 60)),
        KEY.sign(claims(nationalities=[])),
        KEY.sign(claims(nationalities=840)),
        KEY.sign(claims(nationalities=["US", "ZZ"])),
        KEY.sign(claims(nbf=time.time() + 600)),
        KEY.sign(claims(), jku="https://evil.example"),
        KEY.sign(claims(), x5u="https://evil.example"),
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
        ("demo-acme", on_behalf(iss="globex")),
        (KEY.sign(claims()), {"Portcullis-Key": "demo-alice"}),
    ]
    for credential, headers in bad:
        assert (await send(guarded, credential, headers)).status == 401
    mebibyte = KEY.sign(claims(padding="x" * (2**20 * 3 // 4 - 1000)))
    assert 2**20 - 1000 < len(mebibyte) < 2**20
    for credential, headers in ((mebibyte, {}), ("demo-acme", {"Portcullis-On-Behalf-Of": mebibyte})):
        huge = await send(guarded, credential, headers)
        assert (huge.status, huge.header("portcullis-reason")) == (401, "unauthenticated"), "and it is not read"
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


# ---------------------------------------------------------------- knowledge that ends, while streams are in flight

UMBRA_1, UMBRA_2 = Key("umbra-1", "Ed25519"), Key("umbra-2", "Ed25519")
HAIKU = "claude-haiku-4-5"
AMERICAN = {"nationality": ["US"]}
LATER = 5.0
"""Seconds: by then every stream has begun."""

ENDS = {
    # what ends                        how            why the stream is cut   what is asked afterwards gets
    "an attestation expires":         ("by schedule", "attribute_unknown",    "attribute_unknown"),
    "a token expires":                ("by itself",   "attribute_unknown",    "unauthenticated"),
    "what is known expires":          ("by itself",   "attribute_unknown",    "attribute_unknown"),
    "a nationality is corrected":     ("by a commit", "restricted",           "restricted"),
    "a key is revoked":               ("by a commit", "unauthenticated",      "unauthenticated"),
    "a caller is deleted":            ("by a commit", "unauthenticated",      "unauthenticated"),
    "an organisation's key is gone":  ("by a commit", "unauthenticated",      "unauthenticated"),
}  # fmt: skip


async def change(system, method, path, body=None):
    """A commit by a registrar or operator that needs nobody else: its receipt."""
    found = await system.ask_admin("GET", f"/api/v1/{path}", token="demo-approver")
    fits = {"If-Match": found.headers["ETag"]} if found.status == 200 else {"If-None-Match": "*"}
    answer = await system.ask_admin(method, f"/api/v1/{path}", body, token="demo-approver", headers=fits)
    assert (answer.status, answer.json.get("enforced")) == (200, True), answer.json
    return answer.json


async def registered(system, name, kind="person", attributes=None, **fields):
    """A caller, and a key of its own."""
    await change(system, "PUT", f"callers/{name}", {"kind": kind, "attributes": attributes or {}, **fields})
    made = await system.ask_admin("POST", f"/api/v1/callers/{name}/keys", {}, token="demo-approver")
    return made.json["key"]


def until(seconds):
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def attesting(seconds):
    statement = {"terms": {"us-person": True}, "signer": "CEO", "evidence": "letter", "expires": until(seconds)}
    return {"end_users": "attested", "attestation": statement}


class Stream:
    """A stream through the gateway, begun; ``asked`` can be asked again."""

    def __init__(self, system, credential, headers=None, model="claude-fable-5"):
        self.asked = (credential, {**PACED, "X-Sim-Events": "4000", **(headers or {})})
        self.system, self.model, self.raw = system, model, Raw()
        self.task = asyncio.create_task(send(system, *self.asked, self.raw, model))

    async def begun(self):
        await asyncio.wait_for(self.raw.began.wait(), 10)
        return self

    async def cut(self, reason):
        await asyncio.wait_for(self.task, 2 * LATER)
        assert self.raw.ended in ("cut", "reset")
        assert self.raw.ended == "reset" or reason.encode() in self.raw.body

    async def refused(self):
        return (await send(self.system, *self.asked, model=self.model)).header("portcullis-reason")


async def proven(system, revision):
    """The receipt of a revision, once there is one that is closed."""
    answer = await system.ask_admin("GET", f"/api/v1/receipts/{revision}")
    return answer.json if answer.status == 200 and answer.json["basis"] else None


async def test_what_ends_is_enforced_on_the_streams_it_is_about_and_on_no_others(guarded):
    async with AsyncExitStack() as stack:

        async def stream(*asked, **more):
            made = Stream(guarded, *asked, **more)
            stack.callback(made.task.cancel)
            return await made.begun()

        only_us_persons = {"models": [HAIKU], "who": {"not": {"term": "us-person"}}, "state": "in_force"}
        await change(guarded, "PUT", "directives/us-persons", only_us_persons)
        await change(guarded, "PUT", "orgs/umbra", org(UMBRA_1, UMBRA_2))
        await change(guarded, "PUT", "orgs/lasting", attesting(3600))
        app = await registered(guarded, "umbra-app", "service", org="umbra")
        lasting = await registered(guarded, "lasting-app", "service", org="lasting")
        brief = await registered(guarded, "brief-app", "service", org="brief")
        keys = {name: await registered(guarded, name, attributes=AMERICAN) for name in ("ada", "ben", "cleo", "dora")}
        other_key = await guarded.ask_admin("POST", "/api/v1/callers/ben/keys", {}, token="demo-approver")

        def for_a_user(key):
            return on_behalf("umbra-app", key, iss="umbra", sub="zebulon-quux")

        others = [
            await stream(KEY.sign(claims(sub="zebulon-quux", nationalities=["USA", "KAZ"]))),
            await stream("demo-erin"),
            await stream(other_key.json["key"]),
            await stream(app, for_a_user(UMBRA_2)),
            await stream(lasting, model=HAIKU),
            await stream(keys["dora"], model="claude-opus-4-5"),
        ]
        streams = {
            "a nationality is corrected": await stream(keys["ada"]),
            "a key is revoked": await stream(keys["ben"]),
            "a caller is deleted": await stream(keys["cleo"]),
            "an organisation's key is gone": await stream(app, for_a_user(UMBRA_1)),
        }
        streams["a token expires"] = await stream(KEY.sign(claims(exp=time.time() - 30 + LATER)))
        known = {"kind": "person", "attributes": {**AMERICAN, "expires": until(LATER)}}
        await change(guarded, "PUT", "callers/dora", known)
        streams["what is known expires"] = await stream(keys["dora"])
        await change(guarded, "PUT", "orgs/brief", attesting(LATER))
        streams["an attestation expires"] = await stream(brief, model=HAIKU)

        corrected = {"kind": "person", "attributes": {"nationality": ["KZ"]}}
        commits = {
            "a nationality is corrected": ("PUT", "callers/ada", corrected),
            "a key is revoked": ("DELETE", f"callers/ben/keys/{keys['ben'].split('_')[1]}"),
            "a caller is deleted": ("DELETE", "callers/cleo"),
            "an organisation's key is gone": ("PUT", "orgs/umbra", org(UMBRA_2)),
        }
        at = (await guarded.ask_admin("GET", "/api/v1/models")).json["revision"]
        for name, (how, reason, afterwards) in ENDS.items():
            if how == "by a commit":
                receipt = await change(guarded, *commits[name])
                assert (receipt["revision"], receipt["basis"], receipt["streams_cut"]) == (at + 1, "all_acked", 1), name
                at += 1
            ended = streams.pop(name)
            await ended.cut(reason)
            assert await ended.refused() == afterwards, name
            if how == "by schedule":  # replicas have denied by their own clocks; this is the proof
                at += 1
                receipt = await system_until(partial(proven, guarded, at), "a receipt")
                assert (receipt["enforced"], receipt["basis"]) == (True, "all_acked"), name
            assert (await guarded.ask_admin("GET", "/api/v1/models")).json["revision"] == at, name
            going = [*others, *(left for left_name, left in streams.items() if ENDS[left_name][0] == "by a commit")]
            assert not any(each.task.done() for each in going), name


async def test_an_approver_is_appointed_with_the_machines_key(guarded):
    said = await asyncio.to_thread(guarded.run, "appoint", "rescue")
    assert said.startswith("operator rescue (approver), token shown once:\n")
    answer = await guarded.ask_admin("GET", "/api/v1/operators/rescue", token=said.split()[-1])
    assert answer.json["roles"] == ["approver"]
    elsewhere = {**guarded.env, "PORTCULLIS_STATE_DIR": str(guarded.directory / "elsewhere")}
    other = System(guarded.directory, elsewhere, guarded.redis_socket)
    assert "signing" in await asyncio.to_thread(other.run, "appoint", "rescue", code=1)
    assert "no id" in await asyncio.to_thread(guarded.run, "appoint", "no body", code=1)


async def test_neither_metrics_nor_logs_nor_refusals_say_where_somebody_is_from_or_hold_a_secret(guarded):
    """After all that happened above."""
    key = await registered(guarded, "zoe", attributes={"nationality": ["KZ"], "permanent_residence": ["TV"]})
    token = KEY.sign(claims(sub="zebulon-quux", nationalities=["KAZ"]))
    user = on_behalf(nationalities=["KAZ"], sub="zebulon-quux")
    refusals = [await send(guarded, key), await send(guarded, token), await send(guarded, "demo-acme", user)]
    assert {refusal.status for refusal in refusals} == {401, 403}
    operator = (await change(guarded, "PUT", "operators/eve", {"roles": ["viewer"]}))["token"]
    metrics = (await guarded.ask_admin("GET", "/metrics", token="none")).json
    logs = [path for path in guarded.directory.rglob("*.log") if "redis" not in path.name]
    said = {path.name: path.read_text() for path in logs} | {"metrics": metrics}
    said |= {f"refusal {n}": refusal.head.decode() + refusal.body.decode() for n, refusal in enumerate(refusals)}
    assert len(said) >= 5
    signature = token.rpartition(".")[2]
    secrets = (key, key.rpartition("_")[2], token, signature, *user.values(), operator, "sim-key", "eyJ")
    persons = ("zebulon", "KAZ", "Kazakh", "nationality", "nationalities", "permanent_residence", "us-protected")
    for name, text in said.items():
        for secret in (*secrets, *persons):
            assert secret not in text, (name, secret)
        for code in ("KZ", "TV"):
            assert not re.search(rf"(?<![A-Za-z0-9]){code}(?![A-Za-z0-9])", text), (name, code)


async def test_logs_hold_pseudonyms_and_nothing_else_of_a_person(guarded):
    lines = guarded.events("request")
    assert {len(line["caller"]) for line in lines if line.get("caller")} == {16}
    assert any("end_user" in line for line in lines)
    text = (guarded.directory / "gateway.log").read_text()
    for secret in ("eyJ", "user-17", '"alice"', "nationalit", "CHN", "GBN"):
        assert secret not in text, secret
