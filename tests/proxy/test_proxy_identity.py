"""Tokens and end users at the door: whom it lets in, and when what it knows of them ends."""

import asyncio
import time

import pytest
from issuing import AUDIENCE, ISSUER, Key, KeyServer, claims, unsigned
from proxy_harness import OK, STREAM, Client, Door, chunked, get, post
from samples import AT, document

from gateway.identity import directory as directories
from gateway.identity.keys import fingerprint
from gateway.identity.records import Attributes, CallerRecord
from gateway.identity.records import Key as StoredKey
from gateway.policy.caller import Kind
from gateway.settings import Issuer

KEY, ACME_KEY, EVIL_KEY = Key("k1", "ES256"), Key("acme-1", "Ed25519"), Key("evil-1", "Ed25519")
EVENT = b'data: {"n": 1}\n\n'
US_ONLY = {
    "models": ["gpt-5.4"], "who": {"not": {"nationality": {"any_of": ["US"]}}}, "state": "in_force", "by": "op", "at": AT,
}  # fmt: skip


def org(*keys, **fields):
    return {"keys": {key.kid: {k: v for k, v in key.public().items() if k != "kid"} for key in keys}, **fields}


def service(name, org_id, secret):
    keys = {"k": StoredKey(sha256=fingerprint(secret), created=AT)}
    return CallerRecord(id=name, kind=Kind.SERVICE, org=org_id, keys=keys, pseudonym=f"p-{name}")


@pytest.fixture
def issuer():
    with KeyServer(KEY) as running:
        yield running


@pytest.fixture
async def door(provider, tmp_path, issuer):
    """A gate that believes one issuer, with one model for US persons only, and two organisations."""
    policy = document(
        max_stale={"default": 3600, "controlled": 1800},
        directives={"us-only": US_ONLY},
        orgs={"acme": org(ACME_KEY), "evil": org(EVIL_KEY)},
    )
    door = Door(provider.port, tmp_path, policy)
    corp = Issuer(issuer=ISSUER, audience=AUDIENCE, jwks_url=issuer.url)
    door.settings = door.settings.model_copy(update={"issuers": {"corp": corp}, "gateway": "gate"})
    for name, org_id in (("acme-app", "acme"), ("acme-batch", "acme"), ("evil-app", "evil")):
        door.records[fingerprint(f"pc-{name}")] = service(name, org_id, f"pc-{name}")
    await door.open()
    yield door
    await door.close()
    await door.gate.tokens.close()


@pytest.fixture
async def client(door):
    client = await Client.connect(door.port)
    yield client
    await client.close()


def obo(key=ACME_KEY, **fields):
    now = int(time.time())
    said = {"iss": "acme", "aud": "gate", "azp": "acme-app", "sub": "u-1", "iat": now, "exp": now + 600, **fields}
    return f"Portcullis-On-Behalf-Of: {key.sign(claims(**said))}"


async def passes(client, provider, request):
    """The request reaches the provider; its head there."""
    client.send(request)
    upstream = await provider.accept() if not provider.peers else provider.peers[-1]
    seen = await upstream.message()
    upstream.send(OK)
    assert (await client.message()).status == 200
    return seen


async def streaming(client, provider, request):
    client.send(request)
    upstream = await provider.accept()
    await upstream.message()
    upstream.send(STREAM + chunked(EVENT))
    await client.head()
    assert await client.chunk() == EVENT
    return upstream


# ---------------------------------------------------------------- tokens


async def test_a_token_is_a_credential_and_goes_no_further(door, client, provider):
    token = KEY.sign(claims(nationalities=["USA"]))
    seen = await passes(client, provider, post(key=token))
    assert token.encode() not in repr(seen.headers).encode()
    assert door.lines[0]["caller"] == door.gate.tokens.cached(fingerprint(token)).pseudonym
    assert door.loads == 0, "Redis is not asked"


async def test_it_may_come_in_portcullis_key_beside_the_providers_own(door, client, provider):
    headers = (f"Portcullis-Key: {KEY.sign(claims())}",)
    seen = await passes(
        client, provider, post("/compatible/v1/chat/completions", "openai/gpt-5.4", key="own", headers=headers)
    )
    assert seen.header("authorization") == "Bearer own"
    assert seen.header("portcullis-key") is None


@pytest.mark.parametrize(
    ("nationalities", "reason"), [(["GBR"], "restricted"), (..., "attribute_unknown"), (["XXA"], "restricted")]
)
async def test_the_policy_looks_at_what_the_token_says(client, nationalities, reason):
    refused = await client.ask(post(key=KEY.sign(claims(nationalities=nationalities))))
    assert (refused.status, refused.reason) == (403, reason)


def attacks():
    """Each is refused; each differs from a good one in one thing."""
    return {
        "none": unsigned({"alg": "none", "kid": "k1"}, claims()),
        "a shared secret": unsigned({"alg": "HS256", "kid": "k1"}, claims(), b"x" * 32),
        "forged": Key("k1", "ES256").sign(claims()),
        "another issuer": KEY.sign(claims(iss="https://evil.example")),
        "another audience": KEY.sign(claims(aud="x")),
        "expired": KEY.sign(claims(exp=time.time() - 60)),
        "not yet valid": KEY.sign(claims(nbf=time.time() + 600)),
        "unknown key": Key("k9", "ES256").sign(claims()),
        "jku": KEY.sign(claims(), jku="https://evil.example/jwks"),
        "x5u": KEY.sign(claims(), x5u="https://evil.example/x5u"),
        "a number": KEY.sign(claims(nationalities=840)),
        "nothing": KEY.sign(claims(nationalities=[])),
        "an unknown code": KEY.sign(claims(nationalities=["ZZ"])),
        "9 KiB": KEY.sign(claims(padding="x" * 9000)),
        "an end user's token": ACME_KEY.sign(claims(iss="acme", aud="gate", azp="acme-app")),
    }


@pytest.mark.parametrize("name", list(attacks()))
async def test_attacks_get_401_and_nothing_goes_upstream(door, client, provider, name):
    token = attacks()[name]
    refused = await client.ask(post(key=token))
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert (provider.connections, door.loads) == (0, 0)
    assert "evil" not in refused.json["error"]["message"]
    (line,) = door.lines
    assert token not in repr(line)
    assert line["caller"] is None


NO_TOKEN = "eyJ" + "x" * 2**20


@pytest.mark.parametrize(
    "request_",
    [
        post(key=NO_TOKEN),
        post(key=NO_TOKEN[:40_000]),  # one read brings all of it
        post(headers=(f"Portcullis-Key: {NO_TOKEN}",)),
        post(headers=(f"PORTCULLIS-ON-BEHALF-OF: {NO_TOKEN}",)),
    ],
    ids=["a mebibyte", "all of it at once", "another place", "an end user"],
)
async def test_a_credential_beyond_its_limit_is_not_valid_and_not_even_read(client, provider, request_):
    client.send(request_)
    refused = await client.message()
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert (provider.connections, "xxx" in str(refused.json)) == (0, False)


async def test_a_credential_in_pieces_is_measured_as_a_whole(client, provider, until, door):
    head, _, rest = post(key=NO_TOKEN).partition(b"Authorization: Bearer ")
    for piece in (head + b"Author", b"ization: Bea", b"rer " + rest[:100]):
        client.send(piece)
        await asyncio.sleep(0)  # each may be read by itself
    client.send(rest[100:])
    assert (await client.message()).status == 401


@pytest.mark.parametrize("name", ["X-Authorization", "Authorizatio", "Cookie"])
async def test_another_header_that_is_as_long_makes_the_head_too_large(client, provider, name):
    client.send(post(headers=(f"{name}: {NO_TOKEN}",)))
    refused = await client.message()
    assert (refused.status, refused.reason) == (431, "malformed")
    assert provider.connections == 0


@pytest.mark.parametrize(
    "other", ["pc-alice", KEY.sign(claims(sub="bob", exp=time.time() + 86400))], ids=["a key", "a token"]
)
async def test_two_credentials_are_one_too_many(client, provider, other):
    refused = await client.ask(post(key=KEY.sign(claims()), headers=(f"Portcullis-Key: {other}",)))
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert provider.connections == 0


async def test_a_flood_of_unknown_keys_asks_the_issuer_once(door, issuer):
    async def knock(number):
        client = await Client.connect(door.port)
        for n in range(10):
            token = unsigned({"alg": "ES256", "kid": f"k-{number}-{n}"}, claims(), b"x" * 64)
            assert (await client.ask(post(key=token))).status == 401
        await client.close()

    await asyncio.gather(*(knock(number) for number in range(10)))
    assert issuer.hits == 1


async def test_when_the_issuer_is_away_nobody_new_comes_in_and_who_is_known_stays(door, client, provider, issuer):
    token = KEY.sign(claims())
    await passes(client, provider, post(key=token))
    issuer.status = 500
    await passes(client, provider, post(key=token))
    await passes(client, provider, post(key=KEY.sign(claims(sub="bob"))))
    assert (await client.ask(post(key=Key("k2", "ES256").sign(claims())))).status == 401


async def test_a_token_that_expires_while_the_body_comes_is_not_good(door, client, monkeypatch):
    now = [time.time()]
    monkeypatch.setattr(door.gate.tokens, "_clock", lambda: now[0])
    token = KEY.sign(claims(exp=now[0] + 10))
    await door.gate.look_up(token)
    request = post(key=token)
    client.send(request[:-2])
    await asyncio.sleep(0.05)
    now[0] += 60
    client.send(request[-2:])
    assert (await client.message()).status == 401


@pytest.mark.parametrize("callers", ["all", ["oidc:corp:alice"], []])
async def test_a_revision_leaves_who_came_by_token_as_it_is(door, client, provider, callers):
    upstream = await streaming(client, provider, post(key=KEY.sign(claims()), stream=True))
    assert door.gate.affected(callers) == []
    door.apply(callers)
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


async def test_a_revision_judges_it_again_all_the_same(door, client, provider):
    await streaming(
        client, provider, post(key=KEY.sign(claims(nationalities=["FR"])), model="gpt-5.4-mini", stream=True)
    )
    door.apply(directives={"us-only": {**US_ONLY, "models": ["*"]}})
    assert b"restricted" in await client.chunk()
    await client.ends()


# ---------------------------------------------------------------- expiry


async def test_when_a_token_expires_its_stream_is_cut_if_the_policy_asks_for_what_it_said(door, client, provider):
    token = KEY.sign(claims(exp=time.time() - 29.7))
    upstream = await streaming(client, provider, post(key=token, stream=True))
    door.gate.sweep()
    cut = await client.chunk()
    assert b"attribute_unknown" in cut
    await client.ends()
    assert await upstream.is_reset()
    assert (door.lines[0]["severed"], door.lines[0]["reason"]) == (True, "attribute_unknown")
    assert door.lines[0]["caller"], "it is still known who it was"


async def test_what_time_cuts_is_counted_and_is_on_no_revisions_receipt(door, client, provider):
    token = KEY.sign(claims(exp=time.time() - 29.7))
    await streaming(client, provider, post(key=token, stream=True))
    door.gate.sweep()
    await client.chunk()
    assert door.gate.replica.streams_cut == 0
    counted = {
        name: value for name, labels, value in door.gate.samples("r") if labels == ("gpt-5.4", "attribute_unknown")
    }
    assert counted["portcullis_streams_cut_total"] == 1


async def test_and_goes_on_if_not(door, client, provider, until):
    token = KEY.sign(claims(exp=time.time() - 29.7))
    upstream = await streaming(client, provider, post(key=token, model="gpt-5.4-mini", stream=True))
    (exchange,) = door.gate.in_flight
    door.gate.sweep()
    await until(lambda: exchange.caller.facts.nationality is None)
    assert exchange.known_until == float("inf")
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


async def test_an_attestation_that_is_over_leaves_a_key_good_and_its_person_unknown(door, client, provider):
    record = door.records[fingerprint("pc-alice")]
    door.records[fingerprint("pc-alice")] = record.model_copy(
        update={"attributes": Attributes(nationality={"US"}, expires=AT.replace(year=2020))}
    )
    assert (await client.ask(post())).reason == "attribute_unknown"
    await passes(client, provider, post(model="gpt-5.4-mini"))


async def test_a_revision_may_say_until_when_a_person_is_known(door, client, provider):
    record = door.records[fingerprint("pc-alice")]
    known = record.model_copy(update={"attributes": Attributes(nationality={"US"})})
    door.records[fingerprint("pc-alice")] = known
    await streaming(client, provider, post(stream=True))
    over = Attributes(nationality={"US"}, expires=AT.replace(year=2020))
    door.records[fingerprint("pc-alice")] = known.model_copy(update={"attributes": over})
    door.apply(["alice"])
    assert b"attribute_unknown" in await client.chunk()


# ---------------------------------------------------------------- on behalf of


async def test_with_too_many_new_keys_at_once_one_more_is_told_to_come_again(door, client, until, monkeypatch):
    monkeypatch.setattr(directories, "OUTSTANDING_LOADS", 1)
    door.hold_loads = asyncio.Event()
    other = await Client.connect(door.port)
    other.send(post(key="pc-made-up"))
    await until(lambda: door.loads)
    refused = await client.ask(post(key="pc-acme-app"))
    assert (refused.status, refused.reason) == (503, "overloaded")
    assert refused.header("retry-after")
    door.hold_loads.set()
    assert (await other.message()).status == 401
    assert door.loads == 1
    await other.close()


async def test_the_end_user_is_judged_and_its_token_goes_no_further(door, client, provider):
    seen = await passes(client, provider, post(key="pc-acme-app", headers=(obo(),)))
    assert seen.header("portcullis-on-behalf-of") is None
    assert door.lines[0]["caller"] == "p-acme-app"
    assert len(door.lines[0]["end_user"]) == 16
    assert "u-1" not in repr(door.lines)


@pytest.mark.parametrize(("nationalities", "reason"), [(["IR"], "restricted"), (..., "attribute_unknown")])
async def test_what_is_known_of_the_end_user_decides(client, provider, nationalities, reason):
    refused = await client.ask(post(key="pc-acme-app", headers=(obo(nationalities=nationalities),)))
    assert (refused.status, refused.reason) == (403, reason)
    assert provider.connections == 0


OBO_ATTACKS = {
    "signed by another organisation": ("pc-acme-app", lambda: obo(EVIL_KEY)),
    "another organisation's own": ("pc-acme-app", lambda: obo(EVIL_KEY, iss="evil")),
    "sent by another organisation": ("pc-evil-app", obo),
    "replayed with another caller's key": ("pc-acme-batch", obo),
    "sent by a person": ("pc-alice", lambda: obo(azp="alice")),
    "sent with a token": (KEY.sign(claims(org="acme", exp=time.time() + 86400)), lambda: obo(azp="oidc:corp:alice")),
    "expired": ("pc-acme-app", lambda: obo(exp=int(time.time()) - 60)),
    "another audience": ("pc-acme-app", lambda: obo(aud="other")),
    "a bare name": ("pc-acme-app", lambda: "Portcullis-On-Behalf-Of: alice"),
    "nothing": ("pc-acme-app", lambda: "Portcullis-On-Behalf-Of:"),
}


@pytest.mark.parametrize("name", OBO_ATTACKS)
async def test_attacks_with_end_users_get_401_and_nothing_goes_upstream(door, client, provider, name):
    key, header = OBO_ATTACKS[name]
    refused = await client.ask(post(key=key, headers=(header(),)))
    assert (refused.status, refused.reason) == (401, "unauthenticated")
    assert "Portcullis-On-Behalf-Of" in refused.json["error"]["message"]
    assert provider.connections == 0


async def test_two_end_users_are_one_too_many(client, provider):
    refused = await client.ask(post(key="pc-acme-app", headers=(obo(), obo())))
    assert (refused.status, refused.reason) == (400, "malformed")


async def test_where_an_end_user_is_required_none_is_refused(door, client, provider):
    door.apply(orgs={"acme": org(ACME_KEY, end_users="required")})
    assert (await client.ask(post(key="pc-acme-app", model="gpt-5.4-mini"))).reason == "attribute_unknown"
    await passes(client, provider, post(key="pc-acme-app", model="gpt-5.4-mini", headers=(obo(),)))


@pytest.mark.parametrize(
    "orgs",
    [{"acme": org()}, {}, {"acme": org(Key("acme-1", "Ed25519"))}],
    ids=["no key", "no organisation", "a new key"],
)
async def test_when_the_organisations_key_goes_its_streams_are_cut(door, client, provider, orgs):
    upstream = await streaming(client, provider, post(key="pc-acme-app", stream=True, headers=(obo(),)))
    door.apply(orgs=orgs)
    assert b"unauthenticated" in await client.chunk()
    await client.ends()
    assert await upstream.is_reset()


async def test_another_key_of_the_organisation_changes_nothing(door, client, provider):
    upstream = await streaming(client, provider, post(key="pc-acme-app", stream=True, headers=(obo(),)))
    door.apply(orgs={"acme": org(ACME_KEY, EVIL_KEY)})
    upstream.send(chunked(EVENT))
    assert await client.chunk() == EVENT


async def test_a_service_that_changes_sides_loses_its_end_users(door, client, provider):
    await streaming(client, provider, post(key="pc-acme-app", stream=True, headers=(obo(),)))
    door.records[fingerprint("pc-acme-app")] = service("acme-app", "evil", "pc-acme-app")
    door.apply(["acme-app"])
    assert b"unauthenticated" in await client.chunk()


async def test_a_revision_judges_the_end_user_again(door, client, provider):
    await streaming(
        client, provider,
        post(key="pc-acme-app", model="gpt-5.4-mini", stream=True, headers=(obo(nationalities=["FR"]),)),
    )  # fmt: skip
    door.apply(directives={"us-only": {**US_ONLY, "models": ["*"]}})
    assert b"restricted" in await client.chunk()


async def test_when_an_end_users_token_expires_its_stream_is_judged_again(door, client, provider):
    header = obo(iat=time.time() - 100, exp=time.time() - 29.7)
    await streaming(client, provider, post(key="pc-acme-app", stream=True, headers=(header,)))
    door.gate.sweep()
    assert b"attribute_unknown" in await client.chunk()


@pytest.mark.parametrize(("nationality", "instead"), [("FR", ["gpt-5.4-mini"]), ("CN", [])])
async def test_what_may_be_used_instead_is_for_the_end_user(door, client, nationality, instead):
    chinese = {**US_ONLY, "models": ["gpt-5.4-mini"], "who": {"nationality": {"any_of": ["CN"]}}}
    door.apply(directives={"us-only": US_ONLY, "d-2": chinese})
    refused = await client.ask(post(key="pc-acme-app", headers=(obo(nationalities=[nationality]),)))
    assert refused.json["error"]["portcullis"]["alternatives"] == instead


async def test_availability_is_the_end_users(client):
    for nationality, expected in (("US", True), ("FR", False)):
        answer = await client.ask(get("/availability", obo(nationalities=[nationality]), key="pc-acme-app"))
        found = {entry["model"]: entry["available"] for entry in answer.json["models"]}
        assert found["gpt-5.4"] is expected
