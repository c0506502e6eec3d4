"""One WebSocket's part in what its provider keeps: the things that messages of its client use, those that it makes."""

from gateway.dialects.messages import Talk
from gateway.dialects.selectors import Reading
from gateway.policy.snapshot import Asked
from gateway.proxy.keeper import MOST_EVENTS, Keeper
from gateway.proxy.ledger import Ledger
from gateway.proxy.socket_frames import Piece


class SocketMade:
    """What is used and made on one WebSocket. ``by`` is who speaks on it."""

    __slots__ = ("_by", "_keeper", "_ledger", "_provider", "_size", "_talk", "_told")

    def __init__(self, ledger: Ledger, provider: str, talk: Talk, by: str) -> None:
        self._ledger = ledger
        self._provider = provider
        self._talk = talk
        self._by = by
        self._keeper: Keeper | None = None
        self._told: list[bytes] = []
        self._size = 0

    def keeper(self, reading: Reading) -> Keeper | None:
        """The part of a message that says this, if it has one. What is made from then on is made of what it uses."""
        keeping = self._talk.keeping
        if keeping is None or not (reading.ids or keeping.creates):
            return None
        self._keeper = Keeper(self._ledger, self._provider, keeping, {}, reading.ids, self._by)
        return self._keeper

    def widened(self, keeper: Keeper, reading: Reading) -> Reading:
        """What a message says, with the models of the things that it names."""
        asked, _ = keeper.widened(Asked(self._provider, reading.names, also=reading.unnamed))
        return Reading(asked.names, reading.stream, asked.also)

    def hear(self, piece: Piece, asked: Asked, *, begins: bool) -> None:
        """A piece of what the provider says. A message that is longer than any that says so makes nothing."""
        if begins and self._keeper is not None and self._talk.tells_of_a_new_one(piece.data):
            self._told, self._size = [], 0
        elif begins or not self._told:
            self._told = []
            return
        told = piece.data.encode() if isinstance(piece.data, str) else bytes(piece.data)
        self._size += len(told)
        self._told.append(told if self._size <= MOST_EVENTS else b"")
        if piece.message_finished:
            whole, self._told = b"".join(self._told), []
            if self._keeper is not None:
                self._keeper.said(whole, asked)
