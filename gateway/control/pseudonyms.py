"""The pseudonyms of callers, under the gateway's key in ``state_dir``."""

from gateway.identity.pseudonyms import Pseudonyms
from gateway.settings import Settings


def pseudonym(settings: Settings, caller_id: str) -> str:
    """A caller's pseudonym; the key is made at its first use.

    Raises:
        ValueError: the key file is damaged.
    """
    return Pseudonyms(settings.pseudonym_key).of(caller_id)
