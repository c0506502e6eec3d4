"""Reads a file of requests, one JSON object a line, as batches take them: each as strictly as a body of its own."""

from gateway.dialects.selectors import MAX_NAMES, BodyReader, HeavyBodyError, MalformedBodyError, Reading

MAX_LINES = 50_000
"""Requests in one file: OpenAI's limit."""

LIGHT_LINES = 200
"""Lines that are read in about a millisecond."""

_SEPARATORS = (b"\r", "\u2028".encode(), "\u2029".encode(), "\u0085".encode())
"""What some readers end a line at, and others do not. In JSON's strings they can be written as escapes."""


class LineReader:
    """Reads the lines of a file by the reader of one."""

    def __init__(self, line: BodyReader) -> None:
        self.line = line

    def read_light(self, body: bytes) -> Reading:
        """As ``read``, if that is done in a moment.

        Raises:
            MalformedBodyError: as ``read``.
            HeavyBodyError: it is not.
        """
        if body.count(b"\n") > LIGHT_LINES:
            raise HeavyBodyError
        return self._read([self.line.read_light(line) for line in _lines(body)])

    def read(self, body: bytes) -> Reading:
        """All models that its lines name.

        Raises:
            MalformedBodyError: a line is not one JSON object, or could be read in two ways.
        """
        return self._read([self.line.read(line) for line in _lines(body)])

    @staticmethod
    def _read(readings: list[Reading]) -> Reading:
        names = tuple(dict.fromkeys(name for reading in readings for name in reading.names))
        if len(names) > MAX_NAMES:
            raise MalformedBodyError(f"The file names more than {MAX_NAMES} models.")
        unnamed = tuple(dict.fromkeys(capability for reading in readings for capability in reading.unnamed))
        return Reading(names, stream=False, unnamed=unnamed)


def _lines(body: bytes) -> list[bytes]:
    """The lines; only the last may end without a line feed."""
    if any(separator in body for separator in _SEPARATORS):
        raise MalformedBodyError("Lines must end with a line feed alone, and hold no other line separators.")
    lines = body.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines or len(lines) > MAX_LINES:
        raise MalformedBodyError(f"The file must have 1 to {MAX_LINES} lines.")
    if not all(line.strip() for line in lines):
        raise MalformedBodyError("The file has a blank line.")
    return lines
