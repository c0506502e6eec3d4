"""nginx and HAProxy beside the gateway: how they are started, and where they do something else, and why.

A difference is another number of answers with status 200, or another request (method, target, body) at the upstream.
"""

import shutil
import subprocess
from dataclasses import dataclass, field

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"

NGINX_CONFIG = """
daemon off; master_process off; pid {directory}/pid; error_log stderr emerg;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  client_header_timeout 300ms; client_body_timeout 300ms; keepalive_timeout 300ms; lingering_time 300ms; lingering_timeout 300ms;
  client_header_buffer_size 2k; large_client_header_buffers 1 2k; client_max_body_size 5000;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""

HAPROXY_CONFIG = """
global
  maxconn 256
  tune.http.maxhdr 20
defaults
  mode http
  timeout connect 1s
  timeout client 300ms
  timeout server 2s
  timeout http-request 300ms
  timeout http-keep-alive 300ms
  option http-server-close
  option http-buffer-request
frontend in
  bind 127.0.0.1:{port}
  default_backend out
backend out
  server one 127.0.0.1:{upstream}
"""


@dataclass(frozen=True)
class Peer:
    """A proxy to compare with."""

    name: str
    package: str
    version: str
    binary: str
    arguments: tuple[str, ...]
    template: str
    reasons: dict[str, tuple[str, ...]] = field(repr=False)
    path: str = PATH

    def missing(self) -> str | None:
        """Why it cannot be compared with here; the reasons are about one version."""
        if shutil.which(self.binary, path=self.path) is None:
            return f"{self.name} is not installed: apt-get install {self.package}"
        found = subprocess.run([self.executable, "-v"], capture_output=True, text=True, check=False)
        if self.version not in found.stdout + found.stderr:
            return f"the reasons are about {self.name} {self.version}; here is another: update them and this version"
        return None

    @property
    def executable(self) -> str:
        """Its path."""
        return str(shutil.which(self.binary, path=self.path))

    def config(self, port: int, upstream: int, directory: str) -> str:
        """Its configuration, in the small limits of the cases as far as it has them."""
        return self.template.format(port=port, upstream=upstream, directory=directory)

    def command(self, directory: str) -> list[str]:
        """How it is started."""
        return [self.executable, *(part.format(directory=directory) for part in self.arguments)]

    def explained(self) -> dict[str, str]:
        """The reason of each case that differs."""
        return {case: reason for reason, cases in self.reasons.items() for case in cases}


WHY = {
    "no_policy": "It has no table of operations, no callers and no rules about bodies: it forwards what is well-formed.",
    "methods": "Any token is a method, RFC 9110 §9.1; here it must be one that llhttp knows, and then one of an operation.",
    "head": "HEAD goes on as HEAD. No provider documents it, the tables list none: it is refused like any operation not listed.",
    "no_target": "A proxy for all hosts: CONNECT and * are targets like others. Here there is no operation that they could name.",
    "blanks": "It takes a tab, or a blank at the end, for the single blank of RFC 9112 §3, as that allows; here it is refused.",
    "versions": "It serves what is not HTTP/1.1 nor 1.0: a later minor version, HTTP/0.9, or a major version without its preface.",
    "rtsp": "It refuses RTSP; llhttp reads it as HTTP/1.0. What goes on is HTTP/1.1, so the gateway leaves it at that.",
    "bare_lf": "It takes a line feed alone for a line's end, as RFC 9112 §2.2 allows. Here it is refused: it is how one reader's header value becomes another's header.",
    "absolute": "It accepts the absolute form (RFC 9112 §3.2.2 asks servers to) and so has two hosts to choose from. Clients of an API never send it to a gateway; here it is refused.",
    "spelling": "It normalises for its own matching, or not at all, and forwards the target as it came. Here a target that has a second spelling is refused, because operation and model are read from it.",
    "host": "It does not need exactly one well-formed Host, or writes its own upstream. RFC 9112 §3.2 asks for 400; a Host may choose the provider here.",
    "tabs": "It takes only blanks for optional white space; RFC 9110 §5.6.3 has the tab as well.",
    "length": "It takes one length that is said twice (RFC 9110 §8.6 allows to), or any number of digits. Here a length is one number of at most 15.",
    "framing": "Where length and chunks are both there it drops the length, as RFC 9112 §6.3 allows, and takes chunks in HTTP/1.0 or beside a fold. Here the pair is refused: it is the classic of smuggling.",
    "underscore": "It drops headers with an underscore, or forwards them as they are. Servers that turn - into _ read them as the header that counts; here those are refused.",
    "get_body": "A GET may have a body (RFC 9110 §9.3.1 sees no use in it). No operation here has one, and some servers would read it as the next request.",
    "chunk_blank": "It takes white space behind a chunk size or a coding.",
    "unread": "It does not look into chunk extensions and trailers, or drops what is wrong in them. Here all of a message has to be well-formed.",
    "fields": "It drops a header that it cannot read, or forwards its value. Here the request is refused: another reader might read it.",
    "folds": "It joins folded lines, as RFC 9112 §5.2 allows; here they are refused, which it allows as well.",
    "limits": "It counts heads otherwise: by buffers, or with other limits.",
    "expect": "It ignores expectations that it does not know; RFC 9110 §10.1.1 allows 417.",
    "ahead": "It reads one request at a time, and so has no limit of requests read ahead.",
    "nominated": "It does not drop what Connection nominates; RFC 9110 §7.6.1 asks for it. Here the credential is dropped with it, and then there is none.",
    "upgrade": "It looks into the WebSocket handshake and refuses this one, or treats h2c before the lengths. Here Upgrade is ignored.",
}
"""Reasons by a short name."""

NGINX: dict[str, tuple[str, ...]] = {
    WHY["no_policy"]: (
        "method that no operation has",
        "model in the query",
        "encoded model in the query",
        "another operation",
        "slash at the end",
        "body longer than its length",
        "a body of length zero",
        "a body without a length",
        "a header that names another method",
        "two content types",
        "content type of a form",
        "compressed body",
        "two keys",
        "no credential",
        "100-continue with a length of zero",
        "100-continue, the operation is refused",
        "100-continue, there is no credential",
        "100-continue, nobody has this key",
        "100-continue, no JSON is announced",
        "a refusal, then one that is served",
        "served, refused, served",
        "nothing behind a body that is not wanted",
        "HTTP/1.0 with a body and no length",
        "HTTP/1.0, not served",
        "OPTIONS",
        "PURGE",
        "DELETE",
    ),
    WHY["methods"]: ("method that does not exist",),
    WHY["head"]: (
        "HEAD of what GET may have",
        "HEAD of nothing",
        "HEAD with a body",
    ),
    WHY["blanks"]: ("blank after the version",),
    WHY["versions"]: (
        "no version",
        "no version, but headers",
        "HTTP/1.2",
        "HTTP/1.10",
    ),
    WHY["rtsp"]: ("another protocol",),
    WHY["bare_lf"]: (
        "line feed alone after the request line",
        "line feeds alone everywhere",
        "coding behind a line feed alone",
        "line feed in a chunk extension",
        "line feed alone after a chunk size",
        "line feed alone after a chunk",
        "line feed alone at the end",
        "line feed in a value",
        "line feed alone at the head's end",
        "two carriage returns in a line's end",
    ),
    WHY["absolute"]: (
        "absolute form",
        "absolute form of another host",
        "absolute form of another scheme",
    ),
    WHY["spelling"]: (
        "fragment",
        "dot segments",
        "encoded dot segments",
        "encoded slash",
        "encoded letter",
        "encoded CR LF",
        "two slashes",
        "two slashes first",
        "path parameters",
        "UTF-8",
        "quote",
        "braces",
    ),
    WHY["host"]: (
        "Host with a user",
        "Host in UTF-8",
        "Host too long",
    ),
    WHY["tabs"]: (
        "Host with blanks around",
        "length with blanks around",
        "chunked, blanks around",
    ),
    WHY["length"]: ("length of 16 digits",),
    WHY["underscore"]: (
        "length with an underscore in its name",
        "coding with an underscore in its name",
        "underscore in a name that counts",
        "the same with underscores",
    ),
    WHY["get_body"]: (
        "GET with a body",
        "GET with chunks",
        "a request within a GET's body",
        "100-continue, a GET with a body",
    ),
    WHY["chunk_blank"]: ("blank after a chunk size",),
    WHY["unread"]: (
        "NUL in a chunk extension",
        "length in a trailer",
        "coding in a trailer",
        "trailer without a colon",
        "NUL in a trailer",
        "folded trailer",
        "trailers over the head's limit",
    ),
    WHY["fields"]: (
        "no colon",
        "control character in a value",
        "DEL in a value",
        "obs-text in a name",
        "separator in a name",
    ),
    WHY["limits"]: (
        "head one over the limit",
        "head over the limit in pieces",
        "target over the limit",
        "name over the limit",
        "one header more",
    ),
    WHY["expect"]: (
        "another expectation",
        "list of expectations",
        "empty expectation",
    ),
    WHY["ahead"]: ("one more ahead",),
    WHY["nominated"]: ("nominated credential",),
}

HAPROXY: dict[str, tuple[str, ...]] = {
    WHY["no_policy"]: (
        "method that no operation has",
        "model in the query",
        "encoded model in the query",
        "another operation",
        "slash at the end",
        "length one over the limit",
        "body longer than its length",
        "a body of length zero",
        "a body without a length",
        "chunks one over the limit",
        "a header that names another method",
        "two content types",
        "content type of a form",
        "compressed body",
        "two keys",
        "two different credentials",
        "no credential",
        "100-continue with a length of zero",
        "100-continue, the operation is refused",
        "100-continue, there is no credential",
        "100-continue, nobody has this key",
        "100-continue, no JSON is announced",
        "a refusal, then one that is served",
        "served, refused, served",
        "nothing behind a body that is not wanted",
        "HTTP/1.0 with a body and no length",
        "HTTP/1.0, not served",
        "OPTIONS",
        "TRACE",
        "PURGE",
        "DELETE",
    ),
    WHY["methods"]: (
        "method in lower case",
        "method that does not exist",
    ),
    WHY["head"]: (
        "HEAD of what GET may have",
        "HEAD of nothing",
        "HEAD with a body",
    ),
    WHY["no_target"]: (
        "asterisk",
        "asterisk with GET",
        "CONNECT",
    ),
    WHY["blanks"]: (
        "tab after the method",
        "tab before the version",
    ),
    WHY["versions"]: (
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0 without its preface",
        "HTTP/3.0",
    ),
    WHY["rtsp"]: ("another protocol",),
    WHY["bare_lf"]: (
        "line feed alone after the request line",
        "line feeds alone everywhere",
        "coding behind a line feed alone",
        "line feed in a chunk extension",
        "line feed alone after a chunk size",
        "line feed alone after a chunk",
        "line feed alone at the end",
        "line feed in a value",
        "line feed alone at the head's end",
    ),
    WHY["absolute"]: (
        "absolute form",
        "absolute form of another scheme",
    ),
    WHY["spelling"]: (
        "dot segments",
        "dot segments beyond the root",
        "encoded dot segments",
        "encoded slash",
        "encoded letter",
        "encoded NUL",
        "encoded CR LF",
        "percent without digits",
        "two slashes",
        "two slashes first",
        "path parameters",
        "quote",
        "braces",
    ),
    WHY["host"]: (
        "no Host",
        "two equal Hosts",
        "empty Host",
        "Host list",
        "Host with a user",
        "Host with a path",
        "Host with a blank",
        "Host in UTF-8",
        "Host with a NUL",
        "Host too long",
    ),
    WHY["length"]: (
        "two equal lengths",
        "length list, equal",
        "length of 16 digits",
    ),
    WHY["framing"]: (
        "length, then chunks",
        "chunks, then length",
        "CL.TE smuggling",
        "chunked behind a fold",
        "chunked in HTTP/1.0",
    ),
    WHY["underscore"]: (
        "length with an underscore in its name",
        "coding with an underscore in its name",
        "underscore in a name that counts",
        "the same with underscores",
    ),
    WHY["get_body"]: (
        "GET with a body",
        "GET with chunks",
        "a request within a GET's body",
        "100-continue, a GET with a body",
    ),
    WHY["chunk_blank"]: (
        "chunked, a tab behind",
        "blank after a chunk size",
    ),
    WHY["unread"]: (
        "NUL in a chunk extension",
        "length in a trailer",
        "NUL in a trailer",
        "folded trailer",
        "trailers over the head's limit",
    ),
    WHY["fields"]: (
        "NUL in a value",
        "control character in a value",
        "DEL in a value",
    ),
    WHY["folds"]: (
        "folded header",
        "header folded with a tab",
        "fold of nothing",
    ),
    WHY["limits"]: (
        "head one over the limit",
        "head over the limit in pieces",
        "target over the limit",
        "as many headers as allowed",
    ),
    WHY["expect"]: (
        "another expectation",
        "two expectations",
        "list of expectations",
        "empty expectation",
    ),
    WHY["ahead"]: ("one more ahead",),
    WHY["nominated"]: ("nominated credential",),
    WHY["upgrade"]: (
        "WebSocket",
        "h2c with two lengths",
    ),
}

PEERS = (
    Peer(
        "nginx",
        "nginx-light",
        "nginx/1.22.",
        "nginx",
        ("-p", "{directory}", "-c", "{directory}/conf", "-e", "stderr"),
        NGINX_CONFIG,
        NGINX,
    ),
    Peer("HAProxy", "haproxy", "version 2.6.", "haproxy", ("-db", "-f", "{directory}/conf"), HAPROXY_CONFIG, HAPROXY),
)
