"""What was made through the gateway, as Redis keeps it: which models a response, a file, an assistant is of.

Workers write these entries, so they are not signed by the control plane. They are authenticated instead, by an HMAC
over the key's name and the value, with a key that workers have from their configuration: what somebody else wrote, or
moved from another thing, does not verify and counts as nothing. What this cannot see is an older value of the same
entry put back; only things that change (``gateway.dialects.keeping.CHANGEABLE``) have older values.
"""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import orjson

from gateway.enforcement.connection import Client
from gateway.enforcement.keys import Keys

PURPOSE = "ledger"
"""What the key is derived for."""

ATTEMPTS = 5
"""How often an entry that others change at the same time is read again."""

MOST_NAMES = 64
"""Names in an entry. What has had more models could be of any."""

ANY = "*"
_SECRETS = frozenset(("client_secret",))
_CHANGE = """
-- KEYS: entry   ARGV: what it was, what it becomes, seconds
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Made(NamedTuple):
    """Something that a provider keeps: which provider's, of which kind, by which id."""

    provider: str
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of something made: what a request for it named at its provider, and who made it.

    ``also`` are capabilities of models that could have run beside those named, as in ``policy.snapshot.Asked``. Names
    and not models, so that a later catalog says what they mean.
    """

    names: tuple[str, ...]
    also: tuple[str, ...]
    by: str

    def with_more(self, names: Sequence[str], also: Sequence[str]) -> "Entry":
        """The same thing after it has had these, too."""
        every = tuple(dict.fromkeys((*self.names, *names)))
        capabilities = tuple(dict.fromkeys((*self.also, *also, *((ANY,) if len(every) > MOST_NAMES else ()))))
        return Entry(every[:MOST_NAMES], capabilities, self.by)


class MadeStore:
    """The entries. ``secret`` gives the key on first use; ``forged`` hears of each entry that does not verify."""

    def __init__(self, redis: Client, keys: Keys, secret: Callable[[], bytes], keep_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._secret = secret
        self._keep = int(keep_seconds)
        self.forged: Callable[[Made], None] = lambda _made: None
        self._change = redis.register_script(_CHANGE)

    async def get(self, things: Sequence[Made]) -> list[Entry | None]:
        """What is known of things; they are kept on from now.

        Raises:
            RedisError, OSError: Redis does not say.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for thing in things:
                pipe.getex(self._name(thing), ex=self._keep)
            found: list[bytes | None] = await pipe.execute()
        return [self._unsealed(thing, sealed) for thing, sealed in zip(things, found, strict=True)]

    async def put(self, things: Sequence[Made], entry: Entry) -> None:
        """Remember things, which are new.

        Raises:
            RedisError, OSError: they may not be remembered.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for thing in things:
                pipe.set(self._name(thing), self._sealed(thing, entry), ex=self._keep)
            await pipe.execute()

    async def add(self, thing: Made, names: Sequence[str], also: Sequence[str]) -> None:
        """Note that a thing has these, too. Of one that nobody knows nothing is noted: more may be in it.

        Raises:
            RedisError, OSError: it may not be noted.
        """
        name = self._name(thing)
        for _ in range(ATTEMPTS):
            sealed: bytes | None = await self._redis.get(name)
            entry = self._unsealed(thing, sealed)
            more = None if entry is None else entry.with_more(names, also)
            if more is None or more == entry:
                return
            if await self._change(keys=[name], args=[sealed, self._sealed(thing, more), self._keep]):
                return
        await self._redis.delete(name)  # too many at once: from here on nobody knows it

    async def forget(self, things: Sequence[Made]) -> None:
        """Forget things that the provider has forgotten.

        Raises:
            RedisError, OSError: they may still be remembered.
        """
        await self._redis.delete(*map(self._name, things))

    def _name(self, thing: Made) -> str:
        """The entry's name. An id that is a secret is in it as a hash only."""
        name = "sha256-" + sha256(thing.id.encode()).hexdigest() if thing.kind in _SECRETS else thing.id
        return self._keys.made(thing.provider, thing.kind, name)

    # ------------------------------------------------------------------ seals

    def _sealed(self, thing: Made, entry: Entry) -> bytes:
        body = orjson.dumps({"names": entry.names, "also": entry.also, "by": entry.by})
        return self._mac(thing, body) + b"\n" + body

    def _unsealed(self, thing: Made, sealed: bytes | None) -> Entry | None:
        if sealed is None:
            return None
        mac, _, body = sealed.partition(b"\n")
        if not hmac.compare_digest(mac, self._mac(thing, body)):
            self.forged(thing)
            return None
        said = orjson.loads(body)
        return Entry(tuple(said["names"]), tuple(said["also"]), said["by"])

    def _mac(self, thing: Made, body: bytes) -> bytes:
        return hmac.digest(self._secret(), self._name(thing).encode() + b"\0" + body, "sha256").hex().encode()
