"""Which model an operator means: an id, another name it has anywhere, or a pattern."""

import difflib

from gateway.control.problems import Conflict, Malformed, NoSuchModel
from gateway.policy.document import Document, Hold, names_of
from gateway.policy.names import valid_pattern
from gateway.policy.snapshot import Snapshot

KINDS = ("family:", "tag:", "provider:")


def is_pattern(text: str) -> bool:
    """Whether a text means models by what they are, not by name. Such a text may mean none today."""
    return text.startswith(KINDS) or "*" in text or "?" in text


def meant(document: Document, name: str) -> str:
    """The one model that has this id or name.

    Raises:
        NoSuchModel: none has; the problem lists near ones.
        Conflict: it means several, at different providers.
    """
    if name in document.models:
        return name
    found = {model_id for model_id, model in document.models.items() if name in _names(document, model_id)}
    if len(found) == 1:
        return found.pop()
    if found:
        raise Conflict(f"{name!r} means {' and '.join(sorted(found))}, at different providers. Name the id.")
    near = _near(document, name)
    hint = f"Did you mean {' or '.join(near)}?" if near else "GET /api/v1/models lists them."
    raise NoSuchModel(f"The catalog has no model {name!r}. {hint}", near=near)


def resolved(document: Document, text: str) -> str:
    """A pattern as it is, or the id of the model that a name means.

    Raises:
        Malformed: it is no valid pattern.
        NoSuchModel: it is a name, and no model's.
    """
    if not is_pattern(text):
        return meant(document, text)
    if not valid_pattern(text):
        raise Malformed(f"{text!r} is no model pattern: use an id, a glob, family:…, tag:…, provider:… or *.")
    return text


def holds_on(snapshot: Snapshot, model_id: str) -> dict[str, Hold]:
    """Every hold that covers a model, by id."""
    holds = snapshot.document.holds
    return {hold_id: hold for hold_id, hold in holds.items() if model_id in snapshot.covered(hold.models)}


def holds_by_model(snapshot: Snapshot) -> dict[str, dict[str, Hold]]:
    """``holds_on`` for every model of the catalog."""
    found: dict[str, dict[str, Hold]] = {model_id: {} for model_id in snapshot.document.models}
    for hold_id, hold in snapshot.document.holds.items():
        for model_id in snapshot.covered(hold.models):
            found[model_id][hold_id] = hold
    return found


def _names(document: Document, model_id: str) -> set[str]:
    return {name for _, name in names_of(document.models[model_id])}


def _near(document: Document, name: str) -> list[str]:
    """Ids of models with a name like this, the nearest first."""
    owners = {known: model_id for model_id in document.models for known in (model_id, *_names(document, model_id))}
    close = difflib.get_close_matches(name.casefold(), owners, n=10, cutoff=0.6)
    return list(dict.fromkeys(owners[known] for known in close))[:3]
