"""The section ``issuers`` of the settings."""

import pytest

from gateway.settings import Settings, SettingsError, load

GOOD = {"issuer": "https://id.example", "audience": "gate", "jwks_url": "https://id.example/jwks"}


def test_what_an_issuer_needs_and_what_it_gets():
    issuer = Settings(issuers={"corp": GOOD}).issuers["corp"]
    assert issuer.algorithms == ("RS256", "ES256", "EdDSA", "Ed25519")
    assert issuer.leeway == 30
    assert issuer.claims.nationalities == "nationalities"


def test_an_issuer_by_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(f"PORTCULLIS_ISSUERS__CORP__{name.upper()}", value)
    monkeypatch.setenv("PORTCULLIS_ISSUERS__CORP__CLAIMS__NATIONALITIES", "citizenship")
    monkeypatch.setenv("PORTCULLIS_ISSUERS__CORP__ALGORITHMS", '["ES256"]')
    issuer = load().issuers["corp"]
    assert (issuer.claims.nationalities, issuer.algorithms) == ("citizenship", ("ES256",))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:81/x", "http://localhost/x", "http://[::1]:8/x", "https://id.example:8443/a?b=c"]
)
def test_places_of_keys(url):
    Settings(issuers={"corp": {**GOOD, "jwks_url": url}})


@pytest.mark.parametrize(
    "change",
    [{"jwks_url": url} for url in ("http://id.example/jwks", "ftp://id.example", "file:///etc/passwd", "jwks", "https://",
                                   "https://u:p@id.example/jwks", "https://id.example/#x", "http://127.0.0.1.evil.example/")]
    + [{"algorithms": value} for value in ([], ["none"], ["HS256"], ["RS256", "HS512"], ["rs256"])]
    + [{"issuer": ""}, {"audience": ""}, {"leeway": -1}, {"leeway": 3600}, {"claims": {"nationality": "x"}}, {"secret": "x"}],
    ids=str,
)  # fmt: skip
def test_what_an_issuer_must_not_be(change):
    with pytest.raises(ValueError, match=r"issuers\.corp"):
        Settings(issuers={"corp": {**GOOD, **change}})


def test_two_sections_for_one_issuer_would_be_ambiguous():
    with pytest.raises(ValueError, match="the same issuer"):
        Settings(issuers={"a": GOOD, "b": GOOD})


def test_an_unknown_setting_of_an_issuer_stops_the_start(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORTCULLIS_ISSUERS__CORP__SECRET", "x")
    with pytest.raises(SettingsError, match=r"issuers\.corp\.secret: no such setting"):
        load()
