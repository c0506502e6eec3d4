"""How an error is told in a log: what it is and where, never what was in it."""

from pydantic import ValidationError


def describe(error: BaseException) -> str:
    """An error's type and message; of data that does not fit its schema only the places and kinds of the mistakes."""
    if isinstance(error, ValidationError):
        places = (
            f"{'.'.join(map(str, detail['loc'])) or 'document'} ({detail['type']})"
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        )
        return f"{type(error).__name__}: {', '.join(places)}"
    return f"{type(error).__name__}: {error}"
