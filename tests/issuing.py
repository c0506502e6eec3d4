"""An identity provider of one's own: keys, tokens good and bad, and a server for the keys that counts."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from joserfc import jwk, jws

ISSUER = "https://id.example"
AUDIENCE = "https://gate.example"

_ANY_ALGORITHM = jws.JWSRegistry(algorithms=["RS256", "PS256", "ES256", "Ed25519", "HS256"], strict_check_header=False)


def segment(value: Any) -> str:
    """A part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], claims: Any, signature: bytes = b"") -> str:
    """A token with any signature, or none."""
    return f"{segment(header)}.{segment(claims)}.{segment(signature)}"


class Key:
    """A key pair with a name."""

    def __init__(self, kid: str, alg: str = "RS256", size: int = 2048) -> None:
        self.kid, self.alg = kid, alg
        if alg == "ES256":
            self.key: Any = jwk.ECKey.generate_key("P-256")
        elif alg == "Ed25519":
            self.key = jwk.OKPKey.generate_key("Ed25519")
        else:
            self.key = jwk.RSAKey.generate_key(size)

    def public(self, **fields: Any) -> dict[str, Any]:
        """Its JWK, as an issuer publishes it."""
        return {**self.key.as_dict(private=False), "kid": self.kid, **fields}

    def sign(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        """A token; header fields may be replaced, or left out with ``None``."""
        head = {"alg": self.alg, "kid": self.kid, "typ": "JWT", **header}
        protected = {name: value for name, value in head.items() if value is not None}
        return jws.serialize_compact(protected, json.dumps(claims), key or self.key, registry=_ANY_ALGORITHM)


def claims(**fields: Any) -> dict[str, Any]:
    """What an issuer says of Alice; a field of ``...`` is left out."""
    now = time.time()
    said = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": int(now), "exp": int(now) + 300,
        "nationalities": ["US"], **fields,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not ...}


class KeyServer:
    """Serves a key set on loopback, and counts how often it was asked."""

    def __init__(self, *keys: Key) -> None:
        self.hits = 0
        self.status = 200
        self.delay = 0.0
        self.headers: dict[str, str] = {}
        self.publish(*keys)

    def publish(self, *keys: Key) -> None:
        """Replace the key set."""
        self.body = json.dumps({"keys": [key.public(use="sig") for key in keys]}).encode()

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits += 1
                time.sleep(outer.delay)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that did not wait
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
