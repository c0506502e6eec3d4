"""Signing in, and what a session is worth: to its operator, to another site's page, to whoever guesses."""

import asyncio
import json
import stat

import pytest
from aiohttp.test_utils import make_mocked_request
from control_harness import APPROVER, AUDITOR, FABLE, OPERATOR, REGISTRAR, VIEWER

from gateway.console import pages
from gateway.console.sessions import FILE, Sessions
from gateway.console.throttle import MOST, WINDOW_SECONDS, Throttle
from gateway.control.access import ROLES, Access
from gateway.control.routes import ROUTES
from gateway.settings import Settings

OFFLINE = "/models/claude-fable-5/offline"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch):
    monkeypatch.setattr(pages, "FAILED_SECONDS", 0.0)


def cookie_of(answer) -> str:
    return answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0]


# ---------------------------------------------------------------------- signing in and out


async def test_a_token_becomes_a_session(desk):
    answer = await desk.sign_in(OPERATOR)
    assert answer.status == 303
    assert answer.headers["Location"] == "/console/models"
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/")), cookie
    assert OPERATOR not in cookie
    page = await desk.call("GET", "/console/models")
    assert page.status == 200
    assert OPERATOR in await page.text(), "the page says who is signed in"
    assert (await desk.api("GET", "/models")).status == 200


async def test_without_a_session_every_page_leads_to_signing_in(desk):
    for page in pages.PAGES:
        answer = await desk.call("GET", f"/console/{page.id}")
        assert answer.status == 303
        assert answer.headers["Location"] == f"/console/sign-in?next={page.id}"
    assert (await desk.call("GET", "/")).headers["Location"] == "/console/models"
    assert (await desk.api("GET", "/models")).status == 401
    assert (await desk.call("GET", "/console/events")).status == 401


async def test_a_wrong_token_is_nobodys(desk):
    answer = await desk.sign_in("guess")
    assert answer.status == 401
    assert "Set-Cookie" not in answer.headers
    text = await answer.text()
    assert "Nobody has this token" in text
    assert "guess" not in text


async def test_nobody_is_sent_elsewhere_after_signing_in(desk):
    url = desk.url("/console/sign-in?next=//evil.example/")
    answer = await desk.session.post(url, data={"token": OPERATOR}, allow_redirects=False)
    assert answer.headers["Location"] == "/console/models"


async def test_signing_out_ends_the_session_on_the_server(desk, desks):
    answer = await desk.sign_in(OPERATOR)
    stolen = {"Cookie": f"portcullis-test={cookie_of(answer)}"}
    other = desks()
    assert (await other.api("GET", "/models", **stolen)).status == 200
    assert (await desk.call("POST", "/console/sign-out")).status == 303
    assert (await other.api("GET", "/models", **stolen)).status == 401


async def test_a_session_that_was_planted_is_not_taken(desk):
    """Session fixation: what the browser had before is neither used nor kept."""
    desk.session.cookie_jar.update_cookies({"portcullis-test": "planted"})
    answer = await desk.sign_in(OPERATOR)
    assert cookie_of(answer) != "planted"
    first = cookie_of(answer)
    second = cookie_of(await desk.sign_in(APPROVER))
    assert second != first
    desk.session.cookie_jar.clear()
    assert (await desk.api("GET", "/models", Cookie=f"portcullis-test={first}")).status == 401, "the one before is over"
    assert (await desk.api("GET", "/models", Cookie=f"portcullis-test={second}")).status == 200


async def test_a_token_that_is_replaced_ends_its_sessions(desk, office):
    await desk.sign_in(OPERATOR)
    assert (await office.post(f"/api/v1/operators/{OPERATOR}/token", token=APPROVER)).status == 200
    assert (await desk.api("GET", "/models")).status == 401
    assert (await desk.call("GET", "/console/models")).status == 303


async def test_a_session_ends_by_itself_and_survives_a_restart(tmp_path, desk, office):
    answer = await desk.sign_in(OPERATOR)
    file = office.settings.state_dir / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stored = file.read_text()
    assert cookie_of(answer) not in stored
    assert OPERATOR not in stored
    ends = json.loads(stored)[0]["ends"]

    request = make_mocked_request("GET", "/console", headers={"Cookie": f"portcullis-test={cookie_of(answer)}"})
    assert Sessions(office.settings, lambda: ends - 1).find(request) is not None, "another process, the same session"
    assert Sessions(office.settings, lambda: ends + 1).find(request) is None


@pytest.mark.parametrize("content", ["", "[", '[{"who": 1}]', "{}"])
async def test_an_unreadable_file_of_sessions_is_no_session(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    assert Sessions(Settings(gateway="test", state_dir=tmp_path))._sessions == {}


def test_with_tls_the_cookie_is_bound_to_the_host(tmp_path):
    secure = Sessions(Settings(state_dir=tmp_path, console={"secure_cookies": True}))
    assert secure._name == "__Host-portcullis-portcullis"


# ---------------------------------------------------------------------- other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Portcullis_Console": "guessed"},
        {"Portcullis_Console": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
async def test_another_sites_page_changes_nothing(desk, office, headers):
    """CSRF: the cookie alone is not enough, and what the browser says of the page counts."""
    await desk.sign_in(OPERATOR)
    before = await office.revision()
    answer = await desk.api("POST", OFFLINE, {}, **headers)
    assert answer.status in (401, 403), await answer.text()
    assert await office.revision() == before


async def test_a_form_of_another_site_neither_signs_in_nor_out(desk):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await desk.sign_in(OPERATOR, **headers)).status == 403
    await desk.sign_in(OPERATOR)
    assert (await desk.call("POST", "/console/sign-out", Origin="http://evil.example")).status == 403
    assert (await desk.api("GET", "/models")).status == 200


async def test_the_admin_api_takes_no_cookie(desk, office):
    await desk.sign_in(OPERATOR)
    assert (await desk.call("GET", "/api/v1/models")).status == 401
    assert (await desk.api("GET", "/models", Authorization="Bearer nobody")).status == 200, "nor the console a token"


async def test_no_page_can_be_framed_or_run_what_is_not_ours(desk):
    await desk.sign_in(OPERATOR)
    for path in (
        "/console/models",
        "/console/sign-in",
        "/console/static/dom.js",
        "/console/api/v1/models",
        "/console/x",
    ):
        headers = (await desk.call("GET", path)).headers
        policy = headers["Content-Security-Policy"]
        for rule in (
            "default-src 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "base-uri 'none'",
        ):
            assert rule in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"


async def test_only_the_files_there_are_can_be_had(desk):
    found = await desk.call("GET", "/console/static/dom.js")
    assert found.status == 200
    assert found.headers["Content-Type"].startswith("text/javascript")
    again = await desk.call("GET", "/console/static/dom.js", If_None_Match=found.headers["ETag"])
    assert again.status == 304
    for name in ("..%2fpages.py", "%2e%2e%2fapp.py", "no.js", ".", "..%5cpages.py"):
        assert (await desk.call("GET", f"/console/static/{name}")).status in (303, 404), name


# ---------------------------------------------------------------------- guessing


async def test_who_guesses_waits(desks):
    for number in range(MOST):
        assert (await desks().sign_in(f"guess {number}")).status == 401
    for token in ("guess", OPERATOR):
        answer = await desks().sign_in(token)
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= WINDOW_SECONDS


async def test_many_guesses_at_the_same_moment_count(desks):
    answers = await asyncio.gather(*(desks().sign_in(f"guess {number}") for number in range(3 * MOST)))
    assert sorted(answer.status for answer in answers) == [401] * MOST + [429] * 2 * MOST


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded; charset=none", b"token=x"),
        ("application/x-www-form-urlencoded", b"token=%ff\xff"),
        ("multipart/form-data", b"x"),
        ("application/json", b'{"token": "demo-operator"}'),
        ("application/x-www-form-urlencoded", b"token=" + b"x" * 9000),
    ],
)
async def test_what_is_no_form_is_no_token(desk, kind, body):
    answer = await desk.session.post(
        desk.url("/console/sign-in"), data=body, headers={"Content-Type": kind}, allow_redirects=False
    )
    assert answer.status == 401


def test_failures_are_counted_by_address_and_forgotten():
    now = [1000.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(MOST):
        assert throttle.wait("10.0.0.1") == 0
        throttle.failed("10.0.0.1")
    assert throttle.wait("10.0.0.1") == WINDOW_SECONDS
    assert throttle.wait("10.0.0.2") == 0, "another address"
    now[0] += WINDOW_SECONDS
    assert throttle.wait("10.0.0.1") == 0
    throttle.failed("10.0.0.1")
    throttle.succeeded("10.0.0.1")
    assert throttle._failures == {}


def test_an_ipv6_customer_is_one_address():
    throttle = Throttle(lambda: 0.0)
    for number in range(MOST):
        throttle.failed(f"2001:db8:1:2::{number:x}")
    assert throttle.wait("2001:db8:1:2:ffff::1") > 0
    assert throttle.wait("2001:db8:1:3::1") == 0


async def test_a_wrong_token_takes_its_time(desk, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(pages.asyncio, "sleep", sleep)
    monkeypatch.setattr(pages, "FAILED_SECONDS", 0.5)
    await desk.sign_in("guess")
    assert 0.5 in slept


# ---------------------------------------------------------------------- roles


@pytest.mark.parametrize("token", [VIEWER, OPERATOR, APPROVER, REGISTRAR, AUDITOR])
async def test_a_session_may_exactly_what_its_token_may(desk, office, token):
    """Role escalation by direct calls: every route refuses a session as it refuses the bearer token."""
    await desk.sign_in(token)
    roles = (await office.store.records.operator(token)).roles
    for route in ROUTES:
        if route.access is Access.OPEN or roles & ROLES[route.access]:
            continue
        path = route.path.replace("{id}", "x").replace("{key}", "y").replace("{revision}", "1")
        answer = await desk.call(route.method, f"/console{path}", {} if route.method in ("POST", "PUT") else None)
        assert answer.status == 403, f"{route.method} {path}: {answer.status}"


async def test_who_may_not_read_the_policy_gets_no_events(desk):
    await desk.sign_in(REGISTRAR)
    assert (await desk.call("GET", "/console/events")).status == 403
    assert (await desk.call("GET", "/console/timeline")).status == 403
    assert (await desk.call("GET", "/console/impact")).status == 403


async def test_what_a_session_does_is_its_operators(desk, office):
    await desk.sign_in(OPERATOR)
    answer = await desk.api("POST", OFFLINE, {"note": "letter"})
    assert answer.status == 200
    receipt = await answer.json()
    assert receipt["enforced"]
    hold = next(each for each in (await office.get("/api/v1/holds"))["holds"] if each["id"] == receipt["hold"])
    assert (hold["by"], hold["note"]) == (OPERATOR, "letter")
    assert await office.state("claude-fable-5") == "offline"
    assert (await desk.api("POST", f"/holds/{receipt['hold']}/undo", {})).status == 200
    assert (await office.get(FABLE))["state"] == "available"


async def test_sign_ins_at_the_same_moment_are_all_kept(desks, office):
    many = [desks() for _ in range(5)]
    await asyncio.gather(*(each.sign_in(OPERATOR) for each in many))
    assert all([(await each.api("GET", "/models")).status == 200 for each in many])
    assert len(json.loads((office.settings.state_dir / FILE).read_text())) == 5
