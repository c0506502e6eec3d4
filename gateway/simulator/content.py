"""The words of an answer: a function of model, prompt and index, of nothing else.

The natural text is about sixty words, names the model and quotes the prompt; longer answers repeat it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from gateway.simulator.behaviour import Behaviour
from gateway.simulator.dialect import ApiError

MAX_TEXT = 64 << 20  # characters of an answer that must exist in one piece
QUOTE_WORDS = 12
QUOTE_CHARACTERS = 120

_OPENINGS = (
    "Good day, {model} speaking, and thank you for writing.",
    "Hello from {model}, where the kettle has just boiled.",
    "{model} here, glad of the company this afternoon.",
)
_MIDDLES = (
    "I have turned it over slowly, the way one turns a smooth pebble found on a quiet beach.",
    "A question like that deserves an unhurried answer, a window seat and perhaps a second cup of tea.",
    "Let us take it one small step at a time, as walkers do on a long and sunny path.",
)
_CLOSINGS = (
    "None of this is real, of course, yet every word of it arrived in the right order, which is something.",
    "I am only a simulator with good manners, but I hope the words reached you one by one, safe and dry.",
    "If you can read this line, then the gate was open, the stream was whole, and all is well today.",
)


@dataclass(frozen=True, slots=True)
class Script:
    """The answer's text in pieces: `count` of them, of `size` characters each (0: a word each)."""

    text: str
    count: int
    size: int

    def pieces(self) -> Iterator[str]:
        """Yield the text of each delta."""
        return self._slices() if self.size else self._words()

    def whole(self) -> str:
        """Return the pieces joined; raise ApiError 400 where that would be more than MAX_TEXT."""
        if self.count * (self.size or len(self.text)) > MAX_TEXT and self._length() > MAX_TEXT:
            raise ApiError(400, f"an answer in one piece is at most {MAX_TEXT} characters long")
        return "".join(self.pieces())

    def _length(self) -> int:
        if self.size:
            return self.count * self.size
        words = self.text.split(" ")
        return self.count * (len(self.text) + 1) // len(words)

    def _words(self) -> Iterator[str]:
        words = self.text.split(" ")
        for index in range(self.count):
            word = words[index % len(words)]
            yield f" {word}" if index else word

    def _slices(self) -> Iterator[str]:
        loop = self.text + " "
        tape = loop * (self.size // len(loop) + 2)
        for index in range(self.count):
            start = index * self.size % len(loop)
            yield tape[start : start + self.size]


def write(model: str, prompt: str, behaviour: Behaviour) -> Script:
    """Return what `model` answers to `prompt`, in as many pieces of the size that `behaviour` asks for."""
    choice = sha256(f"{model}\n{prompt}".encode()).digest()
    text = " ".join(
        (
            _OPENINGS[choice[0] % len(_OPENINGS)].format(model=model),
            _quote(prompt),
            _MIDDLES[choice[1] % len(_MIDDLES)],
            _CLOSINGS[choice[2] % len(_CLOSINGS)],
        ),
    )
    size = behaviour.event_bytes
    natural = math.ceil(len(text) / size) if size else text.count(" ") + 1
    return Script(text, natural if behaviour.events is None else behaviour.events, size)


def _quote(prompt: str) -> str:
    words = prompt[: 4 * QUOTE_CHARACTERS].split()
    if not words:
        return "You said nothing at all, which is restful."
    quoted = " ".join(words[:QUOTE_WORDS])[:QUOTE_CHARACTERS]
    more = " …" if len(words) > QUOTE_WORDS or len(quoted) == QUOTE_CHARACTERS else ""
    return f"You wrote “{quoted}{more}”."


def cut(text: str, behaviour: Behaviour) -> list[str]:
    """Return `text` in as many pieces as `behaviour` asks for, at least one, none empty."""
    wanted = behaviour.events or math.ceil(len(text) / 8)
    size = max(1, math.ceil(len(text) / max(1, wanted)))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def last_user_text(messages: Any) -> str:
    """Return the text of the last message with role user, in any dialect's shape ("" where there is none).

    `messages` is a string or a list of strings or of `{role, content}`, content being a string or a list of parts
    with `text`.
    """
    if isinstance(messages, str):
        return messages
    if not isinstance(messages, list):
        return ""
    for message in reversed(messages):
        if isinstance(message, str):
            return message
        if isinstance(message, dict) and message.get("role") == "user":
            return _text_of(message.get("content"))
    return ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict)]
    return " ".join(text for text in texts if isinstance(text, str))


def tokens_in(*values: Any) -> int:
    """Return a plausible number of tokens: a quarter of the characters as JSON, at least one."""
    return max(1, sum(len(orjson.dumps(value)) for value in values if value is not None) // 4)
