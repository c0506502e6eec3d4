"""A real Prometheus and a real Alertmanager with the files of ``deploy/prometheus``, their durations scaled down."""

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
from cluster import free_port
from system import ROOT, until

DEPLOY = ROOT / "deploy/prometheus"
FACTOR = 20
"""By how much all durations are shorter than they ship: a minute is three seconds. Of scrapes half: every 500 ms."""

PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
_DURATION = r"\d+(?:ms|s|m|h|d)\b"
_PLACES = re.compile(
    rf"(?P<before>(?:\bfor|\w*interval|\w*_timeout|group_wait): |\[|\boffset )(?P<length>{_DURATION})", re.ASCII
)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def missing() -> list[str]:
    return [program for program in (PROMETHEUS, ALERTMANAGER) if shutil.which(program) is None]


def scaled(text: str, factor: float = FACTOR) -> str:
    """The same rules or settings, with every duration shorter by a factor."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = re.fullmatch(r"(\d+)(\w+)", found["length"]).groups()
        return f"{found['before']}{max(1, round(int(number) * _SECONDS[unit] * 1000 / factor))}ms"

    return _PLACES.sub(shorter, text)


class Receiver:
    """Whom Alertmanager tells: each notification, as it came."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Watch:
    """What looks at a gateway, and tells."""

    def __init__(self, admin: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="pcw-"))
        self._admin = admin.removeprefix("http://")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports = free_port(), free_port()
        self.prometheus, self.alertmanager = (f"http://127.0.0.1:{port}" for port in self._ports)
        self.receiver = Receiver()
        self.seen: dict[str, dict[str, Any]] = {}
        self.arrived: set[str] = set()

    async def start(self) -> "Watch":
        self._begin()
        await until(lambda: self._ready(self.prometheus), "Prometheus")
        await until(lambda: self._ready(self.alertmanager), "Alertmanager")
        return self

    def _begin(self) -> None:
        self._write()
        for program, url, *options in (
            (PROMETHEUS, self.prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
            (ALERTMANAGER, self.alertmanager, "--config.file=alertmanager.yml", "--storage.path=kept", "--cluster.listen-address="),
        ):  # fmt: skip
            command = [program, *options, f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error"]
            self._processes.append(subprocess.Popen(command, cwd=self._directory, start_new_session=True))

    def _write(self) -> None:
        """Their files, as they are deployed: but for the addresses, and for how long everything takes."""
        (self._directory / "rules").mkdir()
        for file in (DEPLOY / "rules").glob("*.yml"):
            (self._directory / "rules" / file.name).write_text(scaled(file.read_text()))
        config = scaled((DEPLOY / "prometheus.yml").read_text(), FACTOR / 2).replace("gateway:8081", self._admin)
        config = config.replace("alertmanager:9093", self.alertmanager.removeprefix("http://"))
        (self._directory / "prometheus.yml").write_text(config)
        receivers = scaled((DEPLOY / "alertmanager.yml").read_text())
        assert receivers.endswith("- name: nobody\n")
        receivers += f"    webhook_configs: [{{url: '{self.receiver.url}', send_resolved: false}}]\n"
        (self._directory / "alertmanager.yml").write_text(receivers)

    async def _ready(self, url: str) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.receiver.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # -------------------------------------------------------------- asking

    async def _get(self, url: str, **params: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(url, params=params) as response:
            body = await response.json()
            assert response.status == 200, body
            return body

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """What an expression gives now. One that does not parse is an error."""
        return (await self._get(f"{self.prometheus}/api/v1/query", query=expr))["data"]["result"]

    async def firing(self) -> dict[str, dict[str, Any]]:
        """Alerts that fire in Prometheus, by name."""
        alerts = (await self._get(f"{self.prometheus}/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    async def received(self) -> dict[str, str]:
        """Alerts that Alertmanager has, by name: ``active``, or ``suppressed`` where a cause of it fires."""
        alerts = await self._get(f"{self.alertmanager}/api/v2/alerts")
        return {alert["labels"]["alertname"]: alert["status"]["state"] for alert in alerts}

    def told(self) -> list[set[str]]:
        """What each notification was about."""
        return [{alert["labels"]["alertname"] for alert in one["alerts"]} for one in self.receiver.got]

    async def look(self) -> None:
        """Take in what fires, and what Alertmanager has. Some alerts are over before anybody asks."""
        self.seen.update(await self.firing())
        self.arrived.update(await self.received())

    async def until_received(self, names: set[str], seconds: float = 60.0) -> dict[str, dict[str, Any]]:
        """Wait until each of these has fired and come to Alertmanager; gives them as they fired."""

        async def all_there() -> bool:
            await self.look()
            await asyncio.sleep(0.1)
            return names <= self.seen.keys() & self.arrived

        try:
            await until(all_there, f"{sorted(names)} to fire", seconds)
        except AssertionError:
            never = sorted(names - (self.seen.keys() & self.arrived))
            raise AssertionError(f"never fired: {never}; seen: {sorted(self.seen)}") from None
        return {name: self.seen[name] for name in names}
