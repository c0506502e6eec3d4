"""A page with 1,000 models while 500 events a second come in: is it still there for its operator?

``.venv/bin/python tests/benchmarks/bench_console.py`` prints what the page's own clock saw: tasks over 50 ms (what
browsers call long), the widest gap between two frames, and how long a key typed into the search takes to be painted.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "scenarios"))

from browser import Desk, call, chromium  # noqa: E402
from playwright.sync_api import CDPSession, expect, sync_playwright  # noqa: E402
from system import new_system  # noqa: E402

MODELS, EVENTS, SECONDS = 1000, 500, 10

FLOOD = """
async ([events, seconds]) => {
  const { receive, state } = await import("/console/static/live.js");
  const models = [...state.models.keys()];
  const long = [], frames = [], keys = [];
  new PerformanceObserver((list) => long.push(...list.getEntries().map((each) => each.duration))).observe({ type: "longtask" });
  let sent = 0, last = performance.now();
  const began = last, until = began + seconds * 1000;
  const frame = (now) => { frames.push(now - last); last = now; if (now < until) requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
  const search = document.querySelector("#view input[type=search]");
  const typing = setInterval(() => {
    const began = performance.now();
    search.value = search.value ? "" : "model-01";
    search.dispatchEvent(new Event("input", { bubbles: true }));
    requestAnimationFrame(() => setTimeout(() => keys.push(performance.now() - began)));
  }, 400);
  await new Promise((done) => {
    const pump = setInterval(() => {
      const due = Math.floor((performance.now() - began) / 1000 * events);
      for (; sent < due; sent += 1) {
        const id = models[Math.floor(Math.random() * models.length)];
        receive("news", { head: { ...state.head, at: Date.now() }, traffic: { [id]: {
          permitted: Math.random() * 100, blocked: 0, in_flight: sent % 40, streams: 3, callers: 2 } } });
      }
      if (performance.now() > until) { clearInterval(pump); clearInterval(typing); done(); }
    }, 4);
  });
  const worst = (all) => all.length ? Math.max(...all).toFixed(0) : "0";
  const middle = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)]?.toFixed(0);
  return { models: models.length, sent, rows: document.querySelectorAll("#models tbody tr").length,
    frames: frames.length, widest: worst(frames), long: long.length, longest: worst(long), key: middle(keys), slowest: worst(keys) };
}
"""


def busy(clock: CDPSession) -> dict[str, float]:
    """Seconds of CPU that the page's main thread has used, by what for: others on the machine do not count."""
    found = {each["name"]: each["value"] for each in clock.send("Performance.getMetrics")["metrics"]}
    return {name: found[f"{name}Duration"] for name in ("Task", "Script", "RecalcStyle", "Layout")}


def main() -> None:
    """Measure, and print."""
    system = new_system()
    try:
        system.start()
        routes = [{"provider": "openai", "names": ["{}"]}]
        edits = [
            {"op": "put", "kind": "models", "id": name, "body": {"routes": [{**routes[0], "names": [name]}]}}
            for name in (f"model-{number:04d}" for number in range(MODELS - 16))
        ]
        call(system, "POST", "/changes", {"edits": edits})
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            desk = Desk(system, browser)
            page = desk.sign_in()
            expect(page.locator("#models tbody tr")).to_have_count(MODELS)
            clock = page.context.new_cdp_session(page)
            clock.send("Performance.enable", {"timeDomain": "threadTicks"})
            before = busy(clock)
            found = page.evaluate(FLOOD, [EVENTS, SECONDS])
            spent = {name: seconds - before[name] for name, seconds in busy(clock).items()}
            browser.close()
        print(
            f"{found['rows']} rows, {found['sent'] / SECONDS:.0f} events/s for {SECONDS} s: "
            f"{found['frames'] / SECONDS:.0f} frames/s, widest gap {found['widest']} ms; "
            f"{found['long']} tasks over 50 ms, longest {found['longest']} ms; "
            f"a key is painted after {found['key']} ms (slowest {found['slowest']} ms); main thread {spent['Task']:.1f} s of "
            f"CPU: scripts {spent['Script']:.1f}, styles {spent['RecalcStyle']:.1f}, layout {spent['Layout']:.1f}"
        )
    finally:
        system.stop()


if __name__ == "__main__":
    main()
