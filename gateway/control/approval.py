"""More access under an order is not one operator's to give, whatever was edited: a hold, a tag, a name."""

from gateway.policy.document import Document, names_of
from gateway.policy.snapshot import Snapshot


def lifted(before: Snapshot, document: Document) -> set[str]:
    """The models of which some name is closed under an order, and would not be with this document.

    A name that no model has any more counts: another model could take it next.
    """
    closed = _closed(before)
    if not closed:
        return set()
    still = set(_closed(Snapshot(document, before.revision + 1)))
    return {model_id for name, model_id in closed.items() if name not in still}


def _closed(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    """Every (provider, name) that an order closes, and the model it means."""
    return {
        name: model_id
        for model_id, closed in snapshot.offline.items()
        if closed.hold.order is not None
        for name in names_of(snapshot.document.models[model_id])
    }
