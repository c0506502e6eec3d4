"""The console in a real browser: an order arrives, is obeyed, is lifted; by mouse, by keyboard alone, on a phone."""

import re
import urllib.error
import urllib.request

import pytest
from browser import Client, Desk, call, chromium, findings, keep, open_everything
from playwright.sync_api import Page, expect, sync_playwright
from system import new_system, wait_for

FABLE = "claude-fable-5"
ORDER = {"authority": "Department of Commerce", "reference": "BIS-2026-0612"}
ENFORCED = re.compile(r"Enforced on 2 of 2 replicas after .* ms")
SCRIPT = "<img src=x onerror=window.__ran=1><script>window.__ran=1</script>"


@pytest.fixture(scope="module")
def office():
    """One gateway and one browser for the file."""
    path = chromium()
    system = new_system(PORTCULLIS_GATEWAY="eu-west", PORTCULLIS_CONSOLE__ENVIRONMENT="production")
    try:
        system.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            yield Desk(system, browser)
            browser.close()
    finally:
        system.stop()


@pytest.fixture
def desk(office):
    yield office
    office.close()
    open_everything(office.system)


def button(page: Page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def dialog(page: Page):
    return page.get_by_role("dialog")


def close(page: Page) -> None:
    dialog(page).get_by_role("button", name="Close").click()
    expect(dialog(page)).to_have_count(0)


def new_order(page: Page) -> None:
    page.get_by_label("Order", exact=True).select_option("new")
    page.get_by_label("Authority", exact=True).fill(ORDER["authority"])
    page.get_by_label("Reference", exact=True).fill(ORDER["reference"])


def row(page: Page, model: str):
    return page.locator("#models tbody tr").filter(has=page.get_by_role("button", name=model, exact=True))


def test_an_order_arrives_while_a_stream_runs(desk):
    client = Client(desk.system)
    page = desk.sign_in()
    expect(page.locator(".gateway")).to_contain_text("eu-west")
    expect(page.locator(".environment")).to_have_text("production")
    expect(row(page, FABLE)).to_contain_text("1", timeout=20_000)
    button(page, f"Take offline… {FABLE}").click()
    hits = dialog(page).locator(".hits")
    expect(hits).to_contain_text("1 request in flight from 1 caller, 1 stream among them")
    page.get_by_label("Public message").fill("Unavailable under a government order.")
    page.get_by_label("Note").fill("Letter received 17:05.")
    new_order(page)
    go = button(page, "Take offline")
    expect(go).to_be_disabled()
    confirm = page.locator("[data-confirm]")
    confirm.fill("claude-fable")
    expect(go).to_be_disabled()
    confirm.fill(FABLE)
    keep(page, "offline")
    go.click()
    verdict = dialog(page).locator(".verdict")
    expect(verdict).to_have_text(ENFORCED)
    expect(verdict).to_contain_text("1 stream cut")
    expect(dialog(page).locator(".acks li")).to_have_count(2)
    expect(dialog(page).locator(".acks li .good")).to_have_count(2)
    wait_for(lambda: client.cut, "the stream's end")
    keep(page, "receipt")
    close(page)
    expect(row(page, FABLE)).to_contain_text("Offline")
    held = page.get_by_role("article")
    for words in (
        "demo-operator",
        ORDER["reference"],
        "Letter received 17:05.",
        "Unavailable under a government order.",
    ):
        expect(held).to_contain_text(words)
    keep(page, "models")
    held.get_by_role("button", name="Undo").click()
    button(page, "Undo the hold").click()
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    close(page)
    expect(row(page, FABLE)).to_contain_text("Available")
    expect(page.get_by_role("heading", name="Nothing is held")).to_be_visible()


def test_what_an_order_closed_two_people_open(desk):
    call(desk.system, "POST", f"/models/{FABLE}/offline", {"order": ORDER})
    operator = desk.sign_in()
    button(operator, f"Release… {FABLE}").click()
    button(operator, "Ask for the release").click()
    expect(dialog(operator)).to_contain_text("Nothing has changed yet")
    close(operator)
    expect(row(operator, FABLE)).to_contain_text("Offline")
    expect(operator.get_by_role("article")).to_contain_text("it waits for a second person")
    desk.go(operator, "directives")
    expect(operator.get_by_text("Your own: another approver decides.")).to_be_visible()
    expect(button(operator, "Look and approve…")).to_have_count(0)
    approver = desk.sign_in("demo-approver", "directives")
    expect(approver.locator("[data-count=directives]")).to_have_text("1")
    button(approver, "Look and approve…").click()
    expect(dialog(approver)).to_contain_text(f"{FABLE} opens to everyone")
    button(approver, "Approve").click()
    expect(dialog(approver).locator(".verdict")).to_have_text(ENFORCED)
    desk.go(operator, "models")
    expect(row(operator, FABLE)).to_contain_text("Available")
    desk.go(operator, "orders")
    expect(operator.locator(".timeline").last).to_contain_text("demo-approver approved")
    expect(operator.locator(".timeline").last).to_contain_text("demo-operator took offline")


def test_a_directive_reads_as_a_sentence_and_says_whom_it_hits(desk):
    page = desk.sign_in(page="directives")
    button(page, "New directive…").click()
    page.get_by_label("Its id").fill("us-persons-only")
    page.get_by_label("Models, by id or pattern").fill(FABLE)
    page.get_by_label("Denied: is or is not").select_option("not")
    new_order(page)
    expect(page.get_by_text(f"{FABLE} is denied to whoever is not a us-person.")).to_be_visible()
    expect(button(page, "Save")).to_be_disabled()
    button(page, "Check what it does").click()
    expect(page.get_by_role("region", name="Lose access")).to_contain_text("2 callers")
    expect(page.get_by_role("region", name="Denied, for something is not known of them")).to_contain_text("2 callers")
    expect(page.get_by_role("region", name="Gain access")).to_contain_text("Nobody")
    expect(page.get_by_role("region", name="Who can still use it")).to_contain_text("4 of 8 registered callers")
    keep(page, "directive", "form.panel")
    button(page, "Save").click()
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    close(page)
    expect(page.get_by_role("article", name="Directive us-persons-only")).to_contain_text("In force")

    request = refused(desk.system, "demo-chen")
    desk.go(page, "explain")
    page.get_by_label("Model").fill(FABLE)
    page.get_by_label("Caller").fill("demo-chen")
    button(page, "Explain").click()
    said = page.get_by_role("region", name="The decision")
    expect(said).to_contain_text(f"demo-chen may not use {FABLE}: a directive denies it.")
    for words in ("us-persons-only", ORDER["reference"], "Does the directive us-persons-only apply? Yes."):
        expect(said).to_contain_text(words)
    keep(page, "explain")
    page.get_by_label("Caller").fill("demo-bob")
    button(page, "Explain").click()
    expect(said).to_contain_text(f"demo-bob may use {FABLE}.")
    page.get_by_label("Who").select_option("attributes")
    page.get_by_label("Nationalities").fill("US, FR")
    button(page, "Explain").click()
    expect(said).to_contain_text(f"Such a caller may use {FABLE}.")
    page.get_by_label("Request id").fill(request)
    button(page, "Look it up").click()
    expect(page.get_by_role("region", name="The refusal")).to_contain_text("Refused: a directive denies it.")


def refused(system, key: str) -> str:
    """The id of a request that was refused."""
    body = b'{"model": "claude-fable-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'
    headers = {"x-api-key": key, "content-type": "application/json"}
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(urllib.request.Request(f"{system.proxy}/anthropic/v1/messages", body, headers))
    raised.value.close()
    return raised.value.headers["Portcullis-Request-Id"]


def test_everything_off_and_on_again(desk):
    call(desk.system, "POST", "/models/gpt-5.4/offline", {})
    page = desk.sign_in(page="traffic")
    button(page, "Everything off…").click()
    expect(dialog(page)).to_contain_text("All 16 models of the gateway eu-west, for everyone.")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    button(page, "Everything off…").dblclick()
    go = button(page, "Turn everything off")
    expect(go).to_be_disabled()
    page.locator("[data-confirm]").fill("eu-west")
    go.click()
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    close(page)
    expect(page.locator("[data-count=models]")).to_have_text("16")
    desk.go(page, "models")
    everything = page.get_by_role("article").filter(has_text="Everything")
    everything.get_by_role("button", name="Undo").click()
    button(page, "Undo the hold").click()
    expect(dialog(page)).to_contain_text("Still offline: gpt-5.4")
    close(page)
    expect(page.locator("[data-count=models]")).to_have_text("1")


def reach(page: Page, name: str | re.Pattern[str], role: str = "button") -> None:
    """Go there with Tab alone."""
    target = page.get_by_role(role, name=name, exact=isinstance(name, str))
    for _ in range(80):
        if target.evaluate_all("(all) => all.includes(document.activeElement)"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", "focus is seen"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached by keyboard")


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is cut off on the right"


def test_by_keyboard_alone_on_a_phone_in_the_dark(desk):
    page = desk.page(360, 740, "dark")
    page.goto(f"{desk.system.admin}/console")
    page.keyboard.type("demo-operator")
    page.keyboard.press("Enter")
    desk.live(page)
    fits(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skips to the content
    reach(page, f"Take offline… {FABLE}")
    page.keyboard.press("Enter")
    page.keyboard.type("Not now.")
    reach(page, re.compile("Type the model's name"), "textbox")
    page.keyboard.type(FABLE)
    fits(page)
    reach(page, "Take offline")
    page.keyboard.press("Enter")
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    keep(page, "phone")
    reach(page, re.compile(r"Undo \("))
    page.keyboard.press("Enter")
    reach(page, "Undo the hold")
    page.keyboard.press("Enter")
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    page.keyboard.press("Escape")
    expect(row(page, FABLE)).to_contain_text("Available")
    reach(page, "Everything off…")
    page.keyboard.press("Enter")
    reach(page, re.compile("Type the gateway's name"), "textbox")
    page.keyboard.type("eu-west")
    page.keyboard.press("Enter")
    expect(dialog(page).locator(".verdict")).to_have_text(ENFORCED)
    page.keyboard.press("Escape")
    for name in ("directives", "traffic", "orders", "explain"):
        desk.go(page, name)
        fits(page)


def test_nothing_serious_for_who_sees_hears_or_moves_otherwise(desk):
    call(desk.system, "POST", f"/models/{FABLE}/offline", {"order": ORDER, "note": "note", "public_message": "message"})
    hold = call(desk.system, "GET", "/holds")["holds"][0]["id"]
    call(desk.system, "POST", f"/holds/{hold}/release", {})
    body = {"models": ["gpt-5.4"], "who": {"nationality": {"any_of": ["CN"]}}, "state": "in_force"}
    call(desk.system, "PUT", "/directives/by-nationality", body)
    for scheme, width, more in (("light", 1280, ("orders", "explain", "traffic")), ("dark", 360, ())):
        page = desk.page(width=width, scheme=scheme)
        page.goto(f"{desk.system.admin}/console/sign-in")
        assert findings(page) == []
        desk.enter(page, "demo-approver")
        for name in (*more, "models"):
            desk.go(page, name)
            assert findings(page) == [], name
        button(page, "Take offline… gpt-5.4").click()
        assert findings(page) == [], "the dialog"
        desk.go(page, "directives")
        button(page, "New directive…").click()
        expect(page.get_by_role("heading", name="New directive")).to_be_visible()
        assert findings(page) == [], "the inbox, the list, the form"


def test_what_anybody_wrote_is_text(desk):
    """XSS through every free text; nothing of it becomes an element, and no link runs a script."""
    system = desk.system
    order = {"authority": SCRIPT, "reference": SCRIPT, "url": "https://example.com/?q='-alert(1)-'", "disclose": True}
    with pytest.raises(urllib.error.HTTPError) as raised:
        call(system, "POST", "/models/gpt-5.4/offline", {"order": {**order, "url": "javascript:window.__ran=1"}})
    raised.value.close()
    call(system, "POST", f"/models/{FABLE}/offline", {"order": order, "note": SCRIPT, "public_message": SCRIPT})
    hold = call(system, "GET", "/holds")["holds"][0]["id"]
    call(system, "POST", f"/holds/{hold}/release", {})
    body = {
        "models": ["gpt-5.4"],
        "who": {"org": {"any_of": ["x"]}},
        "note": SCRIPT,
        "public_message": SCRIPT,
        "state": "draft",
    }
    call(system, "PUT", "/directives/wrote", body)
    page = desk.sign_in("demo-approver")
    for name in ("models", "directives", "traffic", "orders", "explain"):
        desk.go(
            page,
            name,
            "?order=%3Cimg%20src%3Dx%20onerror%3Dwindow.__ran%3D1%3E&caller=%22%3E%3Cscript%3E1&model=%3Cb%3E",
        )
        assert page.evaluate("window.__ran") is None, name
        assert page.locator("main img, main script").count() == 0, name
        links = page.locator("a").evaluate_all("(all) => all.map((each) => each.protocol)")
        assert set(links) <= {"http:", "https:"}, name
    expect(page.get_by_label("Model")).to_have_value("<b>")
    page.get_by_label("Caller").fill(SCRIPT)
    page.get_by_label("Model").fill(SCRIPT)
    button(page, "Explain").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.evaluate("window.__ran") is None
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    assert "require-trusted-types-for" in page.evaluate("window.__violations.splice(0).join()"), "the policy stopped it"
    desk.wrong.clear()


def test_it_says_when_it_is_not_live_and_is_right_again_afterwards(desk):
    """Over an outage of Redis, a restart of the gateway, and an hour's sleep of the machine it is looked at from."""
    system = desk.system
    page = desk.sign_in()
    system.kill("redis")
    alerts = page.get_by_role("alert")
    expect(alerts.filter(has_text="Redis cannot be reached since")).to_be_visible()
    button(page, f"Take offline… {FABLE}").click()
    page.locator("[data-confirm]").fill(FABLE)
    button(page, "Take offline").click()
    expect(dialog(page)).to_contain_text("2 of 2 workers of this machine hold it.")
    close(page)
    expect(row(page, FABLE)).to_contain_text("Offline")
    keep(page, "away")
    system.start_redis()
    expect(alerts).to_have_count(0)
    expect(page.get_by_role("article")).not_to_contain_text("On this machine only")
    expect(row(page, FABLE)).to_contain_text("Offline")

    page.evaluate("() => { const real = Date.now.bind(Date); Date.now = () => real() + 3600000; }")
    with page.expect_request("**/console/events"):
        pass
    expect(page.locator("#liveness.live")).to_be_visible()

    port = system.admin.rpartition(":")[2]
    gateway = system.processes.pop("gateway")
    gateway.terminate()
    expect(page.locator("#liveness-text")).to_contain_text("Not live since")
    expect(alerts.filter(has_text="may be out of date")).to_be_visible()
    gateway.wait(30)
    system.env["PORTCULLIS_ADMIN__LISTEN"] = f"127.0.0.1:{port}"
    system.start_gateway()
    expect(page.locator("#liveness.live")).to_be_visible()
    call(system, "POST", "/models/gpt-5.4/offline", {})
    expect(row(page, "gpt-5.4")).to_contain_text("Offline")
