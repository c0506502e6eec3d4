"""What other readers of forms and of frames find: Python's ``email`` and, where they are, python-multipart and Werkzeug;
the ``websockets`` library.
"""

import contextlib
import io
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP

from websockets.exceptions import ProtocolError
from websockets.frames import DATA_OPCODES, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    import python_multipart
    from werkzeug.formparser import MultiPartParser
except ImportError:  # they are there where `make fuzz` runs
    python_multipart = MultiPartParser = None  # type: ignore[assignment,misc]

Fields = list[tuple[str, bytes]]


def _by_email(boundary: bytes, body: bytes) -> Fields:
    head = b'Content-Type: multipart/form-data; boundary="%b"\r\n\r\n' % boundary
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    found = []
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found.append((name, content))
    return found


def _by_werkzeug(boundary: bytes, body: bytes) -> Fields:
    form, files = MultiPartParser(max_form_memory_size=None).parse(io.BytesIO(body), boundary, len(body))
    fields = [(name, value.encode()) for name, values in form.lists() for value in values]
    return fields + [(name, file.read()) for name, many in files.lists() for file in many]


def _by_python_multipart(boundary: bytes, body: bytes) -> Fields:
    found: Fields = []

    def field(one: object) -> None:
        found.append(((one.field_name or b"").decode("latin-1"), one.value or b""))  # type: ignore[attr-defined]

    def file(one: object) -> None:
        one.file_object.seek(0)  # type: ignore[attr-defined]
        found.append(((one.field_name or b"").decode("latin-1"), one.file_object.read()))  # type: ignore[attr-defined]

    parser = python_multipart.FormParser("multipart/form-data", field, file, boundary=boundary)
    parser.write(body)
    parser.finalize()
    parser.close()
    return found


def readers() -> dict[str, Callable[[bytes, bytes], Fields]]:
    """Those that are here: from boundary and body to fields."""
    found: dict[str, Callable[[bytes, bytes], Fields]] = {"email": _by_email}
    if python_multipart is not None:
        found |= {"werkzeug": _by_werkzeug, "python-multipart": _by_python_multipart}
    return found


def messages_of_websockets(data: bytes) -> list[bytes]:
    """The whole messages in what a client has sent, up to the first mistake."""
    server = ServerProtocol(state=State.OPEN, max_size=None)
    whole: list[bytes] = []
    coming = b""
    with contextlib.suppress(ProtocolError):
        server.receive_data(data)
    for frame in server.events_received():
        if frame.opcode not in (*DATA_OPCODES, Opcode.CONT):  # type: ignore[attr-defined]
            continue
        coming = (b"" if frame.opcode != Opcode.CONT else coming) + bytes(frame.data)  # type: ignore[attr-defined]
        if frame.fin:  # type: ignore[attr-defined]
            whole.append(coming)
            coming = b""
    return whole
