"""The ledger's entries on a real Redis: authenticated, bounded, kept while they are used."""

import asyncio

import pytest

from gateway.enforcement.made import ANY, MOST_NAMES, Entry, Made, MadeStore

ONE, OTHER = Made("openai", "response", "resp_1"), Made("openai", "response", "resp_2")
ENTRY = Entry(("gpt-5.4",), ("image",), "alice")


@pytest.fixture
def forged():
    return []


@pytest.fixture
def made(redis, keys, forged):
    store = MadeStore(redis, keys, lambda: b"k" * 32, 1000)
    store.forged = forged.append
    return store


def name(keys, one):
    return keys.made(*one)


async def test_what_was_put_is_found_and_kept_on(made, redis, keys):
    await made.put([ONE, OTHER], ENTRY)
    await redis.expire(name(keys, ONE), 10)
    assert await made.get([ONE, OTHER, Made("openai", "file", "resp_1")]) == [ENTRY, ENTRY, None]
    assert await redis.ttl(name(keys, ONE)) > 900


async def test_what_was_forgotten_is_not_found(made):
    await made.put([ONE], ENTRY)
    await made.forget([ONE, OTHER])
    assert await made.get([ONE]) == [None]


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b.replace(b"gpt-5.4", b"gpt-5.5"), lambda _: b"", lambda b: b"0" + b[1:]]
)
async def test_what_somebody_changed_is_nothing_and_an_alarm(made, redis, keys, forged, change):
    await made.put([ONE], ENTRY)
    sealed = await redis.get(name(keys, ONE))
    await redis.set(name(keys, ONE), change(sealed) if change(sealed) != sealed else b"1" + sealed[1:])
    assert await made.get([ONE]) == [None]
    assert forged == [ONE]


async def test_an_entry_is_of_its_thing_alone(made, redis, keys, forged):
    await made.put([ONE], ENTRY)
    await redis.set(name(keys, OTHER), await redis.get(name(keys, ONE)))
    assert await made.get([OTHER]) == [None]
    assert forged == [OTHER]


async def test_another_key_verifies_nothing(made, redis, keys):
    await made.put([ONE], ENTRY)
    assert await MadeStore(redis, keys, lambda: b"x" * 32, 1000).get([ONE]) == [None]


async def test_a_secret_is_no_part_of_a_name(made, redis):
    await made.put([Made("openai", "client_secret", "ek_secret")], ENTRY)
    assert not [key for key in await redis.keys("*") if b"ek_secret" in key]
    assert await made.get([Made("openai", "client_secret", "ek_secret")]) == [ENTRY]


async def test_many_at_once_lose_nothing(made):
    thread = Made("openai", "thread", "t")
    await made.put([thread], Entry((), (), "alice"))
    await asyncio.gather(*(made.add(thread, [f"m{n}"], []) for n in range(4)))
    (entry,) = await made.get([thread])
    assert sorted(entry.names) == ["m0", "m1", "m2", "m3"]


async def test_of_what_nobody_knows_nothing_is_noted(made):
    await made.add(ONE, ["gpt-5.4"], [])
    assert await made.get([ONE]) == [None]


def test_what_had_too_many_models_could_be_of_any():
    entry = ENTRY.with_more([f"m{n}" for n in range(MOST_NAMES)], ())
    assert len(entry.names) == MOST_NAMES
    assert ANY in entry.also
