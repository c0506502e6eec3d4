"""Heads go where the operator cannot rewrite them: a file, somebody's machine, a timestamp authority (openssl's)."""

import asyncio
import base64
import json
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.control import couriers as module
from gateway.control.couriers import couriers
from gateway.control.timestamps import RefusedError, check, query
from gateway.enforcement.chain import Place, signed_head
from gateway.enforcement.mirror import TIMESTAMPS
from gateway.observability.metrics import Counters
from gateway.settings import Audit

AUTHORITY = """
[req]
distinguished_name = dn
[dn]
[ext]
basicConstraints = critical,CA:TRUE
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = one
[one]
serial = {directory}/serial
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
signer_digest = sha256
ess_cert_id_alg = sha256
"""


def head(signer, seq=1):
    return signed_head(signer, "test", "2026-06-12T18:00:00+00:00", Place(seq, "ab" * 32), "here")


async def delivered(courier, heads, counters, place):
    running = asyncio.ensure_future(courier.run())
    for each in heads:
        courier.take(each)
    async with asyncio.timeout(5):
        while not any(sample[1] == (place, "delivered") and sample[2] for sample in counters.samples()):
            await asyncio.sleep(0.001)
    running.cancel()


@pytest.fixture
async def served():
    """Who takes what is posted, and answers as the test wants."""
    app, this = web.Application(), SimpleNamespace(got=[], answer=lambda _: web.Response())

    async def take(request):
        body = await request.read()
        this.got.append((request.headers.get("Authorization"), body))
        return this.answer(body)

    app.router.add_post("/", take)
    async with TestServer(app) as server:
        yield this, str(server.make_url("/"))


async def test_a_file_gets_the_newest_head(signer, tmp_path):
    counters = Counters()
    (courier,) = couriers(Audit(heads_file=tmp_path / "heads"), tmp_path, counters)
    await delivered(courier, [head(signer), head(signer, 2)], counters, "file")
    (line,) = (tmp_path / "heads").read_bytes().splitlines()
    assert json.loads(line)["seq"] == 2, "which says all that the one before did"


async def test_somebody_elses_machine_gets_it_again_until_it_takes_it(signer, tmp_path, served, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    monkeypatch.setenv("TOKEN_OF_TEST", "Bearer x")
    app, url = served
    answers = iter([500, 302, 204])
    app.answer = lambda _: web.Response(status=next(answers), headers={"Location": url})
    counters = Counters()
    settings = Audit(heads_url=url, heads_authorization_env="TOKEN_OF_TEST")
    (courier,) = couriers(settings, tmp_path, counters)
    await delivered(courier, [head(signer)], counters, "url")
    assert [authorization for authorization, _ in app.got] == ["Bearer x"] * 3, "a redirect is not followed"
    assert ("portcullis_evidence_heads_total", ("url", "failed"), 2) in counters.samples()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_an_authority_stamps_it_and_openssl_verifies_the_stamp(signer, tmp_path, served):
    config = tmp_path / "tsa.cnf"
    config.write_text(AUTHORITY.format(directory=tmp_path))
    (tmp_path / "serial").write_text("01\n")

    def openssl(*words, data=None):
        return subprocess.run(["openssl", *map(str, words)], input=data, capture_output=True, check=True).stdout

    openssl(*["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tsa", "-extensions", "ext", "-config"], config, "-keyout", tmp_path / "key", "-out", tmp_path / "ca")  # fmt: skip

    def stamp(body):
        (tmp_path / "query").write_bytes(body)
        answer = tmp_path / "answer"
        openssl("ts", "-reply", "-config", config, "-queryfile", tmp_path / "query", "-signer", tmp_path / "ca", "-inkey", tmp_path / "key", "-out", answer)  # fmt: skip
        return web.Response(body=answer.read_bytes())

    app, url = served
    app.answer = stamp
    counters, said = Counters(), head(signer)
    (courier,) = couriers(Audit(timestamp_url=url), tmp_path, counters)
    await delivered(courier, [said], counters, "timestamp")
    (kept,) = [json.loads(line) for line in (tmp_path / TIMESTAMPS).read_bytes().splitlines()]
    assert kept["digest"] == said.digest
    (tmp_path / "kept").write_bytes(base64.b64decode(kept["response"]))
    assert b"OK" in openssl(
        "ts", "-verify", "-digest", said.digest, "-in", tmp_path / "kept", "-CAfile", tmp_path / "ca"
    )
    with pytest.raises(RefusedError, match="something else"):
        check(base64.b64decode(kept["response"]), "00" * 32, 1)


@pytest.mark.parametrize("answer", [b"", b"<html>", bytes.fromhex("30053003020102")])
def test_an_answer_that_is_no_stamp_is_refused(answer):
    with pytest.raises(RefusedError):
        check(answer, "ab" * 32, 1)


def test_a_query_is_der(tmp_path):
    (tmp_path / "q").write_bytes(query("ab" * 32, 2**62))
    if shutil.which("openssl"):
        shown = subprocess.run(
            ["openssl", "ts", "-query", "-in", tmp_path / "q", "-text"], capture_output=True, check=True
        )
        assert b"Hash Algorithm: sha256" in shown.stdout
