"""Debian's Chromium against a running gateway: what pages did that they must not is kept, and asked for in the end."""

import json
import os
import shutil
import threading
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from system import ROOT, System

AXE = Path(os.environ.get("AXE_CORE") or ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js")
IMAGES = os.environ.get("CONSOLE_IMAGES")
"""A directory that screenshots are kept in."""

WATCH = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    """Where the browser is."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return found


@dataclass
class Desk:
    """A browser, and everybody who signed in with it."""

    system: System
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def sign_in(self, token: str = "demo-operator", page: str = "models", **how: Any) -> Page:
        """Somebody new, signed in."""
        opened = self.page(**how)
        opened.goto(f"{self.system.admin}/console/sign-in?next={page}")
        self.enter(opened, token)
        return opened

    def enter(self, page: Page, token: str) -> None:
        """Sign in on the page for it."""
        page.get_by_label("Operator token").fill(token)
        page.keyboard.press("Enter")
        self.live(page)

    def page(self, width: int = 1280, height: int = 860, scheme: Any = "light") -> Page:
        """A page of a browser that nobody has used."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("console", self._console)
        page.on("request", lambda request: self._request(request.url))
        return page

    def _console(self, said: Any) -> None:
        if said.type == "error" and "Failed to load resource" not in said.text and "net::ERR" not in said.text:
            self.wrong.append(f"console: {said.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.system.admin + "/", "blob:", "data:")):
            self.wrong.append(f"request: {url}")

    def go(self, page: Page, name: str, query: str = "") -> None:
        """Another page of the console."""
        self._look_for_violations(page)
        page.goto(f"{self.system.admin}/console/{name}{query}")
        self.live(page)

    @staticmethod
    def live(page: Page) -> None:
        """Wait until a page shows what is."""
        expect(page.locator("#liveness.live")).to_be_visible()

    def _look_for_violations(self, page: Page) -> None:
        if page.url.startswith("http"):
            self.wrong += [f"policy: {each}" for each in page.evaluate("window.__violations")]

    def close(self) -> None:
        """Everybody leaves; nothing may have gone wrong."""
        for context in self.contexts:
            for page in context.pages:
                self._look_for_violations(page)
            context.close()
        self.contexts.clear()
        wrong, self.wrong = self.wrong, []
        assert wrong == []


def keep(page: Page, name: str, part: str | None = None) -> None:
    """A screenshot, where they are asked for; of a part of the page, if one is named."""
    if not IMAGES:
        return
    path = f"{IMAGES}/console-{name}.png"
    if part is None:
        page.screenshot(path=path, animations="disabled")
        return
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({**size, "height": 2000})
    page.evaluate("scrollTo(0, 0)")
    page.locator(part).screenshot(path=path, animations="disabled")
    page.set_viewport_size(size)


def findings(page: Page) -> list[str]:
    """What axe-core finds that is serious, by rule and place."""
    if not AXE.exists():
        pytest.skip("there is no axe-core: npm install --prefix build/axe axe-core")
    page.evaluate(AXE.read_text() + "\nvoid 0")
    found = page.evaluate(
        "axe.run({ resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })"
    )
    return [
        f"{each['id']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


class Client(threading.Thread):
    """Somebody who streams; ``cut`` once the stream has broken off."""

    def __init__(self, system: System, model: str = "claude-fable-5", key: str = "demo-alice") -> None:
        super().__init__(daemon=True)
        self.began, self.cut = threading.Event(), False
        body = {"model": model, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {
            "x-api-key": key,
            "content-type": "application/json",
            "X-Sim-Events": "5000",
            "X-Sim-Interval": "0.05",
        }
        self._request = urllib.request.Request(
            f"{system.proxy}/anthropic/v1/messages", json.dumps(body).encode(), headers
        )
        self.start()
        assert self.began.wait(10)

    def run(self) -> None:
        try:
            with urllib.request.urlopen(self._request) as answer:
                for line in answer:
                    self.began.set()
                    if line.startswith(b"event: error"):
                        self.cut = True
        except OSError:
            self.cut = True
        except Exception as error:  # IncompleteRead
            self.cut = "IncompleteRead" in repr(error)


def call(system: System, method: str, path: str, body: Any = None, token: str = "demo-operator") -> Any:
    """The admin API, beside the browser."""
    request = urllib.request.Request(
        f"{system.admin}/api/v1{path}", None if body is None else json.dumps(body).encode(), method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", "If-None-Match": "*"},
    )  # fmt: skip
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def open_everything(system: System) -> None:
    """As a test found it: no hold, no directive in force."""
    for hold in call(system, "GET", "/holds")["holds"]:
        _agreed(system, call(system, "POST", f"/holds/{hold['id']}/release", {}))
    for directive in call(system, "GET", "/directives")["directives"]:
        if directive["state"] != "lifted":
            _agreed(system, call(system, "POST", f"/directives/{directive['id']}/lift", {}))


def _agreed(system: System, answer: Any) -> None:
    if answer.get("awaiting") == "approval":
        call(system, "POST", f"/changes/{answer['change']}/approve", {}, token="demo-approver")
