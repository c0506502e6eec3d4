"""What providers' APIs look like, as data: a dialect is a table of operations and a few shapes.

``table`` says what an entry is; ``openai`` and ``anthropic`` are entries; ``selectors`` reads model names out of
bodies; ``refusal`` gives a denial its HTTP form. Adding a dialect is one module of data and a test.
"""

from gateway.dialects import anthropic, openai
from gateway.dialects.table import Dialect, Operation

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (openai.OPENAI, openai.OPENAI_COMPATIBLE, anthropic.ANTHROPIC)
}

__all__ = ["DIALECTS", "Dialect", "Operation"]
