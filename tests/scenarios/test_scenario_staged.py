"""An order in its stages: off for all, back for some, for one's own staff too, for everybody.

Each step is one command, one revision, one receipt; a second person approves where access grows, and until then
everybody is refused as before. In June 2026 everybody streams with the official SDKs meanwhile: at each step the streams
of those who are newly denied are cut, and no others.
"""

import asyncio
import json
from contextlib import AsyncExitStack

import anthropic
import httpx2
import openai
from raw import Raw, ask

MODEL = "claude-fable-5"
MESSAGES = [{"role": "user", "content": "Hi"}]
PEOPLE = ("demo-alice", "demo-bob", "demo-chen", "demo-dana", "demo-farid", "demo-hana")
REASONS = {
    "open": dict.fromkeys(PEOPLE),
    "off": dict.fromkeys(PEOPLE, "model_offline"),
    "us persons": {
        "demo-alice": None, "demo-bob": None, "demo-farid": None,
        "demo-chen": "restricted", "demo-hana": "restricted", "demo-dana": "attribute_unknown",
    },
    "and staff": {
        "demo-alice": None, "demo-bob": None, "demo-farid": None, "demo-hana": None,
        "demo-chen": "restricted", "demo-dana": "attribute_unknown",
    },
}  # fmt: skip


async def reasons(system) -> dict[str, str | None]:
    """Who is refused and why, as the official SDK sees it."""
    found: dict[str, str | None] = {}
    for person in PEOPLE:
        base = f"{system.proxy}/anthropic"
        async with anthropic.AsyncAnthropic(base_url=base, api_key=person, max_retries=0) as client:
            try:
                await client.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES)
            except anthropic.APIStatusError as error:
                assert error.status_code == 451
                found[person] = error.response.json()["error"]["portcullis"]["reason"]
            else:
                found[person] = None
    return found


async def revision(system) -> int:
    return (await system.ask_admin("GET", "/api/v1/models")).json["revision"]


async def streaming(system, key: str, model: str) -> tuple[Raw, asyncio.Task]:
    raw = Raw()
    body = {"model": model, "max_tokens": 9, "stream": True, "messages": MESSAGES}
    headers = {"x-api-key": key, "X-Sim-Interval": "0.05", "X-Sim-Events": "2000"}
    task = asyncio.create_task(ask(system.proxy, "/anthropic/v1/messages", body, headers, raw))
    await asyncio.wait_for(raw.began.wait(), 10)
    return raw, task


async def command(system, *words: str, token: str = "demo-operator", code: int = 0) -> str:
    return await asyncio.to_thread(system.run, *words, token=token, code=code)


async def test_an_order_in_its_stages(system):
    assert await reasons(system) == REASONS["open"]
    staff = {
        "kind": "person",
        "org": "ourselves",
        "attributes": {"nationality": ["IN"], "permanent_residence": [], "legal_status": []},
    }
    caller = await system.ask_admin("GET", "/api/v1/callers/demo-hana", token="demo-approver")
    moved = await system.ask_admin(
        "PUT", "/api/v1/callers/demo-hana", staff, token="demo-approver", headers={"If-Match": caller.headers["ETag"]}
    )
    assert moved.status == 200, moved.json
    cut, cut_task = await streaming(system, "demo-alice", MODEL)
    other, other_task = await streaming(system, "demo-alice", "claude-opus-4-5")

    # the order arrives: off for all
    at = await revision(system)
    said = await command(system, "offline", MODEL, "--authority", "Commerce", "--reference", "2026-0612")
    assert "enforced on 2 of 2 replicas" in said
    assert await revision(system) == at + 1
    await asyncio.wait_for(cut_task, 5)
    assert cut.ended in ("cut", "reset")
    assert await reasons(system) == REASONS["off"]

    # off for all becomes off for some, in one revision, by two people
    said = await command(system, "online", MODEL, "--only", "us-person", code=7)
    assert "STILL DENIED" in said
    assert await reasons(system) == REASONS["off"]
    said = await command(system, "change", "approve", token="demo-approver")
    assert "enforced on 2 of 2 replicas" in said
    assert await revision(system) == at + 2
    assert await reasons(system) == REASONS["us persons"]

    # one's own foreign staff
    (directive_id,) = (await system.ask_admin("GET", "/api/v1/policy")).json["directives"]
    found = await system.ask_admin("GET", f"/api/v1/directives/{directive_id}")
    policy = (await system.ask_admin("GET", "/api/v1/policy")).json["directives"][directive_id]
    body = {name: policy[name] for name in ("models", "who", "order") if name in policy}
    body["except"] = [{"org": {"any_of": ["ourselves"]}}]
    answer = await system.ask_admin(
        "PUT", f"/api/v1/directives/{directive_id}", body, headers={"If-Match": found.headers["ETag"]}
    )
    assert answer.json.get("awaiting") == "approval", answer.json
    assert await reasons(system) == REASONS["us persons"]
    assert (await system.agreed(answer))["enforced"]
    assert await reasons(system) == REASONS["and staff"]

    # the order is lifted
    newly, newly_task = await streaming(system, "demo-alice", MODEL)
    said = await command(system, "lift", directive_id, code=7)
    said = await command(system, "change", "approve", token="demo-approver")
    assert "enforced" in said
    assert await revision(system) == at + 4
    assert await reasons(system) == REASONS["open"]
    assert not other_task.done(), "a stream of another model was never touched"
    assert not newly_task.done()
    for task in (other_task, newly_task):
        task.cancel()
    assert json.dumps(other.status) == "200"
    assert newly.status == 200


# ---------------------------------------------------------------- June 2026, with everybody's streams

OTHER, THIRD = "claude-opus-4-5", "gpt-5.4"
PACED = {"X-Sim-Interval": "0.05", "X-Sim-Events": "4000"}
STAFF = {"nationality": ["IN"], "permanent_residence": [], "legal_status": []}
EVERYONE = {
    "alice": {"kind": "person", "attributes": {"nationality": ["US"]}},
    "listed": {"kind": "service", "org": "acme"},
    "unlisted": {"kind": "service", "org": "globex"},
    "staff": {"kind": "person", "org": "ourselves", "attributes": STAFF},
    "nobody": {"kind": "person"},
}
LISTED = {"condition": {"org": {"any_of": ["acme", "initech"]}}, "source": "list of 12 June 2026"}
SHORTER = {"condition": {"org": {"any_of": ["initech"]}}, "source": "list of 19 June 2026"}

#                      alice  listed  unlisted  staff  nobody      who may have the model
STAGES = {
    "open":           "ok     ok      ok        ok     ok",
    "off for all":    "off    off     off       off    off",
    "entity list":    "NO     ok      NO        NO     NO",
    "and own staff":  "NO     ok      NO        ok     NO",
    "a shorter list": "NO     NO      NO        ok     NO",
}  # fmt: skip
MARKS = {None: "ok", "model_offline": "off", "restricted": "NO"}


def stage(name):
    return " ".join(STAGES[name].split())


class June:
    """A gateway in June 2026, and everybody's keys."""

    def __init__(self, system, directory):
        self.system, self.directory = system, directory
        self.clients = {}

    async def prepare(self, stack):
        for name, body in EVERYONE.items():
            path = f"/api/v1/callers/{name}"
            put = await self.admin("PUT", path, body, headers={"If-None-Match": "*"})
            assert put.status == 200, put.json
            key = (await self.admin("POST", f"{path}/keys", {})).json["key"]
            for sdk, base in ((anthropic.AsyncAnthropic, "anthropic"), (openai.AsyncOpenAI, "openai/v1")):
                client = sdk(base_url=f"{self.system.proxy}/{base}", api_key=key, max_retries=0)
                self.clients[name, base] = await stack.enter_async_context(client)

    async def admin(self, method, path, body=None, **more):
        return await self.system.ask_admin(method, path, body, token="demo-approver", **more)

    async def revision(self):
        return (await self.admin("GET", "/api/v1/models")).json["revision"]

    def file(self, name, body):
        path = self.directory / f"{name}.json"
        path.write_text(json.dumps(body))
        return str(path)

    async def command(self, *words, token="demo-operator", code=0):
        return json.loads(await asyncio.to_thread(self.system.run, *words, "--json", token=token, code=code))

    async def step(self, *words, cut=0):
        """One command that takes access away, or changes nobody's: one revision and its receipt."""
        before = await self.revision()
        await self.proven(await self.command(*words), before + 1, cut)

    async def agreed(self, *words, seen):
        """One command that gives access: nothing happens before somebody else agrees."""
        before = await self.revision()
        waiting = await self.command(*words, code=7)
        assert waiting["awaiting"] == "approval"
        assert (await self.revision(), await self.marks()) == (before, stage(seen)), "still denied"
        await self.proven(await self.command("change", "approve", token="demo-approver"), before + 1, 0)

    async def proven(self, receipt, revision, cut):
        assert (receipt["revision"], receipt["enforced"], receipt["basis"]) == (revision, True, "all_acked")
        assert receipt["streams_cut"] == cut
        assert await self.revision() == revision
        again = (await self.admin("GET", f"/api/v1/receipts/{revision}")).json
        assert (again["enforced"], again["streams_cut"]) == (True, cut)

    async def marks(self):
        """Who is refused, as the SDK sees it, in the words of the table."""
        return " ".join([MARKS[await self.refused(name)] for name in EVERYONE])

    async def refused(self, name):
        try:
            await self.clients[name, "anthropic"].messages.create(model=MODEL, max_tokens=9, messages=MESSAGES)
        except anthropic.APIStatusError as error:
            told = error.response.json()["error"]["portcullis"]
            assert error.status_code == 451
            assert OTHER in told["alternatives"]
            return told["reason"]
        return None


class Streaming:
    """Somebody's stream, read by the SDK until it ends."""

    def __init__(self, client, model):
        self.client, self.model = client, model
        self.began = asyncio.Event()
        self.error = None
        self.task = asyncio.create_task(self._read())

    async def _read(self):
        asked = {"model": self.model, "messages": MESSAGES, "stream": True, "extra_headers": PACED}
        try:
            if isinstance(self.client, openai.AsyncOpenAI):
                stream = await self.client.chat.completions.create(**asked)
            else:
                stream = await self.client.messages.create(**asked, max_tokens=4000)
            async for _ in stream:
                self.began.set()
        except (anthropic.APIError, openai.APIError, httpx2.TransportError) as error:
            self.error = error

    async def cut(self):
        await asyncio.wait_for(self.task, 5)
        assert self.error is not None, "a stream that is cut never looks complete"

    def goes_on(self):
        return not self.task.done()


async def test_june_2026(system, tmp_path):
    june = June(system, tmp_path)
    async with AsyncExitStack() as stack:
        await june.prepare(stack)

        async def stream(name, model=MODEL):
            made = Streaming(june.clients[name, "openai/v1" if model == THIRD else "anthropic"], model)
            stack.callback(made.task.cancel)
            await asyncio.wait_for(made.began.wait(), 10)
            return made

        assert await june.marks() == stage("open")
        bystanders = [await stream("alice", OTHER), await stream("unlisted", THIRD)]
        victims = [await stream(name) for name in EVERYONE]
        await june.step("term", "put", "entity-list", june.file("term", LISTED))

        await june.step("offline", MODEL, "--authority", "Commerce", "--reference", "2026-0612", cut=len(victims))
        for victim in victims:
            await victim.cut()
        assert await june.marks() == stage("off for all")

        await june.agreed("online", MODEL, "--only", "entity-list", seen="off for all")
        assert await june.marks() == stage("entity list")
        listed = await stream("listed")

        directives = (await june.admin("GET", "/api/v1/policy")).json["directives"]
        (directive_id,) = [name for name, each in directives.items() if each["state"] == "in_force"]
        found = (await june.admin("GET", f"/api/v1/directives/{directive_id}")).json
        body = {name: found[name] for name in ("models", "who", "order")}
        body["except"] = [{"all": [{"org": {"any_of": ["ourselves"]}}, {"kind": {"any_of": ["person"]}}]}]
        await june.agreed("directive", "put", directive_id, june.file("directive", body), seen="entity list")
        assert await june.marks() == stage("and own staff")
        staff = await stream("staff")

        await june.step("term", "put", "entity-list", june.file("term", SHORTER), cut=1)
        await listed.cut()
        assert await june.marks() == stage("a shorter list")
        assert staff.goes_on()

        await june.agreed("lift", directive_id, seen="a shorter list")
        assert await june.marks() == stage("open")
        assert all(each.goes_on() for each in (*bystanders, staff)), "nothing else was touched"
