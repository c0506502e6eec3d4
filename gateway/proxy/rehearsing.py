"""Rehearsals: what a caller would be answered if a model were taken offline now. They can only deny.

``Portcullis-Rehearse`` names the model, or is ``model_offline`` for whatever the request names. Nothing is offline for
anybody: the request alone is decided under the policy in force with one hold more. What the policy refuses anyway is
refused as it is; what that hold would not touch goes its way, so that a fallback can be rehearsed to its end.
"""

from dataclasses import replace
from datetime import UTC, datetime

from gateway.policy.decision import Deny, Permit, Reason
from gateway.policy.document import Hold, rfc3339
from gateway.policy.snapshot import Asked, Snapshot
from gateway.proxy.head import malformed

HEADER = "Portcullis-Rehearsal"
"""What marks the refusal of a rehearsal; its value are the models that are offline in it."""

RESTRICTION = "rehearsal"
"""The id of the hold that nobody placed."""

KEEP = 32
"""Policies with a hold more that are kept, for those who rehearse for a while: each is small, and quickly made."""


class Rehearsals:
    """The policies of rehearsals, one for each choice of models, until the next revision."""

    def __init__(self) -> None:
        self._of: Snapshot | None = None
        self._made: dict[tuple[str, ...], Snapshot] = {}

    def policy(self, current: Snapshot, models: tuple[str, ...]) -> Snapshot:
        """The policy in force, but that these models are offline."""
        if self._of is not current or len(self._made) >= KEEP:
            self._of, self._made = current, {}
        made = self._made.get(models)
        if made is None:
            hold = Hold(models=models, by=RESTRICTION, at=datetime.now(UTC))
            made = self._made[models] = current.with_hold(RESTRICTION, hold)
        return made


def models_meant(value: bytes, current: Snapshot, permit: Permit, asked: Asked) -> tuple[str, ...]:
    """The models that a rehearsal takes offline.

    Raises:
        Refused: there is no such model; it would rehearse nothing, unnoticed.
    """
    name = value.decode("latin-1")
    if name == str(Reason.MODEL_OFFLINE):
        if not permit.models:
            raise malformed("This request names no model: Portcullis-Rehearse must name the one that is to be offline.")
        return permit.models
    found = current.resolve(asked.provider, name) or current.find(name)
    if found is None:
        raise malformed(f"Portcullis-Rehearse must be a model of this gateway, or {Reason.MODEL_OFFLINE}.")
    return (found,)


def as_of_now(deny: Deny) -> Deny:
    """The denial as it would be if the hold were of this moment."""
    return replace(deny, since=rfc3339(datetime.now(UTC)))
