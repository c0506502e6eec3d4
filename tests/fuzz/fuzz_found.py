"""What fuzzing has found, minimised: by target. All of it is refused, or read alike, by now."""

FOUND = (
    # an id with an encoded dot segment: a server that decodes it and resolves it serves another operation
    ("head", b"\0GET /v1/files/f%2F..%2F..%2Fresponses%2Fr HTTP/1.1\r\nHost: gate\r\n\r\n"),
    ("head", b"\0GET /v1/models/a%2F. HTTP/1.1\r\nHost: gate\r\n\r\n"),
    # a query of question marks: the comparison itself took one off
    ("head", b"\tPOST /v1/files??? HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"),
    # a bare carriage return in a part's head, which ends it for Python's email: what follows is the file's first line
    (
        "form",
        b'\x03--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\rContent-Type: text/plain\r\n\r\n{"body":{"model":"A"}}\r\n--x--\r\n',
    ),
    (
        "form",
        b'\x03--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: x/y\r\r{"body":{"model":"K"}}\r\n\r\n{"body":{"model":"A"}}\r\n--x--\r\n',
    ),
)
