"""Ids that are short, readable, and the same again when a call is composed or sent again."""

from collections.abc import Container
from hashlib import sha256


def derive(kind: str, seed: str, taken: Container[str] = ()) -> str:
    """``<kind>-<8 hex>`` from a seed; longer where that id is taken by something else."""
    digits = sha256(f"{kind}\0{seed}".encode()).hexdigest()
    lengths = range(8, len(digits) + 1, 4)
    return next(candidate for length in lengths if (candidate := f"{kind}-{digits[:length]}") not in taken)
