"""Turns at something that does one thing at a time, fair between those who queue for it."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Waiting = asyncio.Future[None]


class Turns:
    """A lock whose next turn goes round the owners: whoever queues a hundred times waits for oneself, not others."""

    def __init__(self) -> None:
        self._taken = False
        self._round: OrderedDict[str, deque[Waiting]] = OrderedDict()

    def locked(self) -> bool:
        """Whether it is somebody's turn."""
        return self._taken

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn of this owner's, and have it."""
        await self._take(owner)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, owner: str) -> None:
        if not self._taken:
            self._taken = True
            return
        turn: Waiting = asyncio.get_running_loop().create_future()
        self._round.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it came too late
            raise

    def _pass_on(self) -> None:
        """The owner that has waited longest for its turn gets one, and comes last in the next round."""
        while self._round:
            owner, turns = self._round.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._round[owner] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
