"""Where a request carries the caller's credential: ``Portcullis-Key``, or where the dialect's SDKs put it."""

from collections.abc import Iterable

from gateway.identity.keys import MAX_CREDENTIAL


class CredentialError(Exception):
    """No credential, or more than one. The message is for the client and never quotes a credential."""


class KeyInTwoPlacesError(CredentialError):
    """One in the query, and one in a header: not even the same one, for they are not of one client."""


def gateway_credential(
    own: bytes | None,
    headers: Iterable[tuple[bytes, bytes]],
    places: Iterable[tuple[bytes, bytes]],
    *,
    forwards: bool,
    in_query: bytes = b"",
) -> str:
    """The one gateway credential of a request.

    ``own`` is ``Portcullis-Key``; ``places`` are a dialect's (header, scheme). Where a provider's credentials are
    forwarded, the dialect's places carry the caller's provider key and only ``Portcullis-Key`` counts.
    ``in_query`` is the one that the query holds.

    Raises:
        CredentialError: there is none, or there are two different ones, or it is too long.
        KeyInTwoPlacesError: there is one in the query and one elsewhere.
    """
    found = {own.strip()} if own is not None else set()
    if not forwards:
        wanted = dict(places)
        for name, value in headers:
            scheme = wanted.get(name)
            if scheme is not None:
                found.add(_without_scheme(value.strip(), scheme))
    found.discard(b"")
    if in_query:
        if found:
            raise KeyInTwoPlacesError("A key in the query and one in a header. Send it once, in a header.")
        found.add(in_query)
    if not found:
        raise CredentialError("No credential: send the gateway key where your SDK puts its API key.")
    if len(found) > 1:
        raise CredentialError("Two different credentials in one request.")
    credential = found.pop()
    if len(credential) > MAX_CREDENTIAL:
        raise CredentialError("The credential is too long.")
    return credential.decode("utf-8", "surrogateescape")


def _without_scheme(value: bytes, scheme: bytes) -> bytes:
    if (value + b" ")[: len(scheme)].lower() == scheme.lower():  # an SDK without a key sends the scheme alone
        return value[len(scheme) :].strip()
    return value
