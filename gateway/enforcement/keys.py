"""The names of what lies in Redis. One prefix a gateway, a hash tag, so that a cluster keeps it on one node."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under a prefix such as ``{pc}``."""

    prefix: str

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    @property
    def cur(self) -> str:
        """Hash: epoch, rev, hash, doc."""
        return self._key("cur")

    @property
    def log(self) -> str:
        """Stream: one entry a revision, ids ``<rev>-0``."""
        return self._key("log")

    @property
    def docs(self) -> str:
        """List: which documents are kept."""
        return self._key("docs")

    def doc(self, digest: str) -> str:
        """A sealed policy document."""
        return self._key(f"doc:{digest}")

    @property
    def ops(self) -> str:
        """Hash: op_id → the answer that was given."""
        return self._key("ops")

    @property
    def ops_order(self) -> str:
        """List: op_ids, oldest first."""
        return self._key("ops-order")

    @property
    def replicas(self) -> str:
        """Hash: member → what it last said."""
        return self._key("replicas")

    @property
    def acks(self) -> str:
        """Capped stream: what members say when it changes."""
        return self._key("acks")

    def detail(self, rev: int) -> str:
        """What is to be told of a revision, until the notary has put it into the chain."""
        return self._key(f"detail:{rev}")

    @property
    def evidence(self) -> str:
        """Stream: receipts, drills, proposals, sign-ins as they come, until the notary has put them into the chain."""
        return self._key("evidence")

    @property
    def chain(self) -> str:
        """Stream: the chain of evidence, ids ``<seq>-0``."""
        return self._key("chain")

    @property
    def chain_head(self) -> str:
        """Hash: where the chain ends (seq, hash), and which revision it told last (epoch, rev)."""
        return self._key("chain-head")

    @property
    def chain_orders(self) -> str:
        """Hash: revision → the orders that it was about."""
        return self._key("chain-orders")

    def chain_of(self, order: str) -> str:
        """List: the numbers of the entries that are about an order."""
        return self._key(f"chain-of:{order}")

    def effects(self, restriction: str) -> str:
        """Hash: worker → whom a restriction hit there."""
        return self._key(f"effects:{restriction}")

    @property
    def clocks(self) -> str:
        """Hash: control process → what its clock and Redis' said at the same time."""
        return self._key("clocks")

    @property
    def receipts(self) -> str:
        """Hash: rev → its receipt, an index into the evidence."""
        return self._key("receipts")

    @property
    def drills(self) -> str:
        """List: what drills found, newest first."""
        return self._key("drills")

    def traffic(self, bucket: int) -> str:
        """Hash: ``caller model`` → permitted requests in that hour."""
        return self._key(f"traffic:{bucket}")

    def made(self, provider: str, kind: str, name: str) -> str:
        """Something that a provider keeps: an entry of the ledger, authenticated by the workers."""
        return self._key(f"made:{provider}:{kind}:{name}")

    def names(self, kind: str) -> str:
        """Sorted set: the names of all callers, or operators, for the commit script to keep and for lists to page."""
        return self._key(f"names:{kind}")

    def record(self, kind: str, name: str) -> str:
        """A sealed record: ``caller``, ``operator``; or, unsealed, ``key`` → the caller's id."""
        return self._key(f"{kind}:{name}")
