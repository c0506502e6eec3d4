"""Replicas that renew when a test says so."""

from typing import Any

from gateway.enforcement import scripts
from gateway.enforcement.store import Store


class FakeMember:
    """A replica, as Redis sees it."""

    def __init__(self, store: Store, name: str) -> None:
        self.name = name if ":" in name else f"{name}:{'0' * 32}"
        self._store = store
        self._renew = store.redis.register_script(scripts.RENEW)
        self._leave = store.redis.register_script(scripts.LEAVE)

    async def renew(
        self, *, swept: int | None = None, cut: int = 0, draining: int = 0, finishing: str = "", nack: str = ""
    ) -> str:
        """Say that it has applied what is current."""
        keys = self._store.keys
        cur: dict[bytes, bytes] = await self._store.redis.hgetall(keys.cur)
        rev = int(cur[b"rev"])
        args: list[Any] = [self.name, cur[b"epoch"], rev, cur[b"hash"], rev if swept is None else swept, cut, draining]
        words = ("rev", "hash", "swept", "streams_cut", "draining")
        said = dict(zip(words, [rev, cur[b"hash"].decode(), *args[4:]], strict=True))
        mac = self._store.voucher.renewal(self.name, {**said, "finishing": finishing})
        args += ["n", "host", "1", finishing, nack, mac]
        answer = await self._renew(keys=[keys.cur, keys.replicas, keys.acks], args=args)
        return answer[0].decode()

    async def leave(self) -> None:
        """Say that it serves nothing any more."""
        await self._leave(
            keys=[self._store.keys.replicas, self._store.keys.acks],
            args=[self.name, "", self._store.voucher.leave(self.name)],
        )
