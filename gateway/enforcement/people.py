"""What a commit writes beside the policy: the records of callers and operators, and what the evidence says of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.enforcement.details import Digests
from gateway.enforcement.keys import Keys
from gateway.enforcement.signing import Signer
from gateway.identity.records import CallerRecord, OperatorRecord
from gateway.identity.records import dump as dump_record


@dataclass(frozen=True, slots=True)
class Edit:
    """What a commit changes beside the document: records by Redis key (empty deletes), and whom replicas forget.

    ``told``: what the evidence says of it, by ``kind/id``.
    """

    records: dict[str, bytes] = field(default_factory=dict)
    callers: tuple[str, ...] = ()
    told: dict[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Edit") -> "Edit":
        """Both."""
        return Edit(self.records | other.records, (*self.callers, *other.callers), self.told | other.told)


class People:
    """Makes edits of the records of people; ``digest_key`` gives what the evidence tells them by."""

    def __init__(self, keys: Keys, signer: Signer, digest_key: Callable[[], bytes] | None) -> None:
        self.keys = keys
        self.signer = signer
        self._digests = Digests(digest_key or (lambda: signer.voucher.key))

    def put_caller(self, record: CallerRecord, previous: CallerRecord | None) -> Edit:
        """Store a caller, its keys' pointers, and drop the pointers of keys it no longer has."""
        records = {self._record("caller", record.id): self.signer.seal("caller", record.id, dump_record(record))}
        gone = {key.sha256 for key in previous.keys.values()} if previous else set()
        for key in record.keys.values():
            records[self._record("key", key.sha256)] = record.id.encode()
            gone.discard(key.sha256)
        told = {f"callers/{record.id}": self._digests.caller(previous, record)}
        return Edit(records | {self._record("key", old): b"" for old in gone}, (record.id,), told)

    def drop_caller(self, record: CallerRecord) -> Edit:
        """Remove a caller and its keys."""
        keys = {self._record("key", key.sha256): b"" for key in record.keys.values()}
        told = {f"callers/{record.id}": self._digests.caller(record, None)}
        return Edit({self._record("caller", record.id): b""} | keys, (record.id,), told)

    def put_operator(self, record: OperatorRecord, previous: OperatorRecord | None) -> Edit:
        """Store an operator and its token's pointer."""
        records = {
            self._record("operator", record.id): self.signer.seal("operator", record.id, dump_record(record)),
            self._record("token", record.token_sha256): record.id.encode(),
        }
        if previous is not None and previous.token_sha256 != record.token_sha256:
            records[self._record("token", previous.token_sha256)] = b""
        return Edit(records, told={f"operators/{record.id}": self._digests.operator(previous, record)})

    def drop_operator(self, record: OperatorRecord) -> Edit:
        """Remove an operator and its token."""
        gone = {self._record("operator", record.id): b"", self._record("token", record.token_sha256): b""}
        return Edit(gone, told={f"operators/{record.id}": self._digests.operator(record, None)})

    def _record(self, kind: str, name: str) -> str:
        return self.keys.record(kind, name)
