"""Contexts from files: what is wrong with a file is said, and a changed one is followed if it can be used."""

import asyncio
import ssl

import pytest
from certificates import Authority, Pair, encrypted

from gateway.observability.metrics import Counters
from gateway.settings import ClientTls, ServerTls, SettingsError
from gateway.tls import (
    client_context,
    following,
    keep_current,
    server_context,
    warn_of_readable_key,
    watched_client,
    watched_server,
)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def pair(authority) -> Pair:
    return authority.issue()


def listener(pair: Pair, **fields: object) -> ServerTls:
    return ServerTls(certificate=pair.certificate, key=pair.key, **fields)


def reloads(counters: Counters) -> dict[str, float]:
    return {labels[1]: value for _, labels, value in counters.samples() if value}  # others are there from the start


# ---------------------------------------------------------------- what is wrong with a file


def test_what_a_provider_is_asked_with_verifies_it():
    context = client_context(ClientTls(), "providers.x.tls")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509_ca"] > 0, "the system's"


def test_an_authority_of_ones_own_is_the_only_one(authority):
    context = client_context(ClientTls(ca_file=authority.file), "providers.x.tls")
    assert context.cert_store_stats()["x509_ca"] == 1


SPOILT = {
    "no certificate": (lambda p, a: p.certificate.unlink(), r"x\.certificate .*gate\.crt: No such file.*must be able"),
    "no key": (lambda p, a: p.key.unlink(), r"x\.key .*gate\.key: No such file"),
    "an empty certificate": (lambda p, a: p.certificate.write_text(""), "no certificate in PEM form"),
    "a key for a certificate": (lambda p, a: p.certificate.write_bytes(p.key.read_bytes()), "no certificate in PEM"),
    "a certificate for a key": (lambda p, a: p.key.write_bytes(p.certificate.read_bytes()), "no private key in PEM"),
    "half a key": (lambda p, a: p.key.write_bytes(p.key.read_bytes()[:100]), "no private key in PEM"),
    "a passphrase": (lambda p, a: encrypted(p), "has a passphrase; store it without one"),
    "another's key": (lambda p, a: p.key.write_bytes(a.issue("other").key.read_bytes()), "is not the one of the first"),
    "a directory": (lambda p, a: (p.key.unlink(), p.key.mkdir()), "Is a directory"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_what_is_wrong_with_a_pair_is_said(pair, authority, spoil, message):
    server_context(listener(pair), "x")
    spoil(pair, authority)
    with pytest.raises(SettingsError, match=message):
        server_context(listener(pair), "x")
    with pytest.raises(SettingsError, match=message):
        client_context(ClientTls(certificate=pair.certificate, key=pair.key), "x")


def test_what_is_wrong_with_an_authority_is_said(pair, tmp_path):
    with pytest.raises(SettingsError, match=r"x\.client_ca .*No such file"):
        server_context(listener(pair, client_ca=tmp_path / "gone"), "x")
    with pytest.raises(SettingsError, match=r"x\.ca_file .*no certificate in PEM form"):
        client_context(ClientTls(ca_file=pair.key), "x")


def test_a_key_that_others_can_read_is_told_of(pair, capsys):
    warn_of_readable_key("x.key", pair.key)
    assert capsys.readouterr().out == ""
    pair.key.chmod(0o644)
    warn_of_readable_key("x.key", pair.key)
    assert "chmod o-r" in capsys.readouterr().out


# ---------------------------------------------------------------- following the files


async def test_a_new_pair_is_for_the_next_handshake(pair, authority):
    counters = Counters()
    watched = watched_server(listener(pair), "x", counters)
    first = watched.context
    await watched.check()
    assert (watched.context, reloads(counters)) == (first, {})
    pair.replace_by(authority.issue("next"))
    await watched.check()
    assert watched.context is not first
    assert reloads(counters) == {"loaded": 1}


async def test_a_pair_that_is_no_good_is_told_of_once_and_the_old_one_stays(pair, authority, capsys):
    counters = Counters()
    watched = watched_server(listener(pair), "x", counters)
    first, second = watched.context, authority.issue("next")
    pair.certificate.write_bytes(second.certificate.read_bytes())  # its key has not come yet
    for _ in range(3):
        await watched.check()
    assert (watched.context, reloads(counters)) == (first, {"refused": 1})
    assert capsys.readouterr().out.count("certificate_kept") == 1
    pair.key.write_bytes(second.key.read_bytes())
    await watched.check()
    assert reloads(counters) == {"refused": 1, "loaded": 1}
    pair.key.unlink()
    await watched.check()
    assert reloads(counters)["refused"] == 2


async def test_a_directory_that_is_swapped_below_a_link_is_seen(authority, tmp_path):
    """As Kubernetes changes a mounted secret: the files' own names never change."""
    for name in ("one", "two"):
        pair = authority.issue("tls")
        (tmp_path / name).mkdir()
        for file in (pair.certificate, pair.key):
            file.rename(tmp_path / name / file.name)
    link = tmp_path / "current"
    link.symlink_to("one")
    counters = Counters()
    watched = watched_server(ServerTls(certificate=link / "tls.crt", key=link / "tls.key"), "x", counters)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    await watched.check()
    assert reloads(counters) == {"loaded": 1}


async def test_a_providers_files_are_followed_too(authority, tmp_path):
    counters = Counters()
    watched = watched_client(ClientTls(ca_file=authority.file), "x", counters)
    authority.file.write_bytes(Authority(tmp_path, "next").file.read_bytes())
    await watched.check()
    assert reloads(counters) == {"loaded": 1}


async def test_all_of_them_are_looked_at_again_and_again(pair, authority, monkeypatch, until):
    monkeypatch.setattr("gateway.tls.WATCH_SECONDS", 0.001)
    watched = watched_server(listener(pair), "x", Counters())
    first = watched.context
    keeping = asyncio.get_running_loop().create_task(keep_current([watched]))
    pair.replace_by(authority.issue("next"))
    await until(lambda: watched.context is not first)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_a_server_that_knows_one_context_uses_the_current_one(pair, authority):
    """Also from one kind of key to the other, where a context that is loaded twice would keep both."""
    watched = watched_server(listener(pair), "x", Counters())
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=following(watched))
    port = server.sockets[0].getsockname()[1]

    async def certificate() -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusted())
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return found

    before = await certificate()
    pair.replace_by(authority.issue("next", kind="rsa"))
    assert await certificate() == before
    await watched.check()
    after = await certificate()
    assert after != before
    assert ssl.DER_cert_to_PEM_cert(after) == pair.certificate.read_text()
    server.close()
