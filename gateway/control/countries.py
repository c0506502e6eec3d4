"""Countries as operators name them: ISO 3166-1 alpha-2, plus what passports need beyond it."""

from typing import Annotated

from pydantic import AfterValidator

from gateway.identity.countries import BEYOND, ISO_3166_1


def is_code(code: str) -> bool:
    """Whether a code is a country's, or stands where a country would."""
    return code in ISO_3166_1 or code in BEYOND


def _country(code: str) -> str:
    if not is_code(code):
        raise ValueError("no country: use an ISO 3166-1 alpha-2 code in capitals, e.g. GB, or XXA for stateless")
    return code


Country = Annotated[str, AfterValidator(_country)]
"""A country's code. A misspelt one would match no rule, so it is refused where it comes in."""
