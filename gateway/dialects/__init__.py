"""What providers' APIs look like, as data: a dialect is a table of operations and a few shapes.

``table`` says what an entry is; ``openai``, ``anthropic``, ``gemini`` and ``bedrock`` are entries; ``selectors`` reads
model names out of JSON, ``forms``, ``lines`` and ``coding`` out of what is around it, ``bodies`` says which of them a
request gets; ``refusal`` gives a denial its HTTP form. Adding a dialect is one module of data and a test.
"""

from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.bedrock import BEDROCK
from gateway.dialects.gemini import GEMINI, VERTEX
from gateway.dialects.openai import AZURE, OPENAI, OPENAI_COMPATIBLE
from gateway.dialects.table import Dialect, Operation

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OPENAI, OPENAI_COMPATIBLE, ANTHROPIC, GEMINI, BEDROCK, AZURE, VERTEX)
}

__all__ = ["DIALECTS", "Dialect", "Operation"]
