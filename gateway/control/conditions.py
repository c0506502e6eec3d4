"""Preconditions: ``If-None-Match: *`` creates, ``If-Match: "<revision>"`` updates (RFC 9110 §13, RFC 6585)."""

from collections.abc import Mapping

from gateway.control.problems import PreconditionFailed, PreconditionRequired


def etag(revision: int) -> str:
    """An object's ETag: the revision that last changed it."""
    return f'"{revision}"'


def check(headers: Mapping[str, str], what: str, revision: int | None) -> None:
    """Whether the call may change an object, whose last change was ``revision``; ``None``: there is no such object.

    Raises:
        PreconditionRequired: the call does not say what it expects.
        PreconditionFailed: it expects something else.
    """
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if match is None and none_match is None:
        raise PreconditionRequired(
            f'Send If-None-Match: * to create {what}, or If-Match: "<revision>" with the ETag of GET to change it.'
        )
    if none_match is not None and (none_match.strip() != "*" or revision is not None):
        raise PreconditionFailed(f"{what} exists already. Send If-Match with the ETag of GET to change it.")
    if match is not None and not _fits(match, revision):
        now = "does not exist" if revision is None else f"was last changed by revision {revision}"
        raise PreconditionFailed(f"{what} {now}. Read it again, then decide.")


def _fits(match: str, revision: int | None) -> bool:
    if revision is None:
        return False
    return match.strip() == "*" or etag(revision) in (tag.strip() for tag in match.split(","))
