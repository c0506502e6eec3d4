"""On for some: restrict, lift, online --only; trying it out; a second person; the policy's words; questions."""

import json
import re

import pytest
from control_harness import APPROVER, OPERATOR, OTHER, SECOND

from gateway.cli.exits import Exit

ORDER = ("--authority", "Department of Commerce", "--reference", "BIS-2026-0612")


async def decision(gate, caller, model="claude-fable-5"):
    return (await gate.post("/api/v1/explain", {"caller": caller, "model": model}))["decision"]


# ------------------------------------------------------------------------------------------------ restrict, lift


async def test_restrict_denies_some_and_proves_it(gate, portcullis):
    shown = await portcullis("restrict", "claude-5-fable", "--only", "us-person", "--note", "letter of 17:05")
    assert shown.code == Exit.DONE
    assert re.fullmatch(
        r"RESTRICTED claude-5-fable · revision 2 · enforced on 1 of 1 replica after [0-9.]+ ms"
        r" · directive (d-[0-9a-f]{8}) \(end: portcullis lift \1\)\n",
        shown.out,
    )
    (directive,) = (await gate.get("/api/v1/directives"))["directives"]
    assert (directive["state"], directive["note"], directive["models"]) == (
        "in_force",
        "letter of 17:05",
        ["claude-fable-5"],
    )
    assert [await decision(gate, name) for name in ("demo-alice", "demo-chen", "demo-dana")] == [
        "permit",
        "deny",
        "deny",
    ]
    shown = await portcullis("lift", directive["id"])
    assert shown.code == Exit.DONE
    assert shown.out.startswith(f"LIFTED {directive['id']} · revision 3 · ")
    assert await decision(gate, "demo-chen") == "permit"


async def test_restrict_says_everything_that_the_api_takes(gate, portcullis):
    words = (
        *("--deny-nationality", "CN,RU", "--deny-nationality", "group:ear-e1", "--except-org", "acme"),
        *("--from", "2026-01-01T00:00:00Z", "--until", "2099-01-01T00:00:00Z", "--shadow", "--id", "d-mine"),
        *("--public-message", "Not now.", "--let-finish", "30", "--disclose", "--order-url", "https://example.org/o"),
    )
    shown = await portcullis("restrict", "--pattern", "tag:controlled", *words, *ORDER)
    assert shown.code == Exit.DONE, shown.err
    assert shown.out.startswith("IN SHADOW tag:controlled: nobody is denied · ")
    got = await gate.get("/api/v1/directives/d-mine")
    assert got["who"] == {"nationality": {"any_of": ["CN", "RU", "group:ear-e1"]}}
    assert got["except"] == [{"org": {"any_of": ["acme"]}}]
    assert (got["state"], got["public_message"], got["in_flight"]) == ("shadow", "Not now.", {"let_finish": 30.0})
    assert got["window"]["until"].startswith("2099")
    assert (await gate.get(f"/api/v1/orders/{got['order']}"))["disclose"] is True
    assert (await portcullis("directive", "enforce", "d-mine")).out.startswith("IN FORCE d-mine · ")


async def test_who_is_any_condition(gate, portcullis):
    who = {"any": [{"kind": {"any_of": ["service"]}}, {"org_country": {"any_of": ["CN"]}}]}
    assert (await portcullis("restrict", "gpt-5.4", "--who", json.dumps(who), "--id", "d-1")).code == Exit.DONE
    assert (await gate.get("/api/v1/directives/d-1"))["who"] == who
    shown = await portcullis("restrict", "gpt-5.4", "--who", '{"nationality": {"any_of": ["UK"]}}')
    assert shown.code == Exit.REFUSED
    assert "nationality.any_of[0]" in shown.err


async def test_a_dry_run_says_who_would_lose(gate, portcullis):
    shown = await portcullis("restrict", "claude-fable-5", "--only", "us-person", "--dry-run")
    assert shown.code == Exit.DONE
    assert shown.lines[0] == "LOSES claude-fable-5: 2 registered callers (no org 2) · 0 requests lately · 1 profile"
    assert shown.lines[1] == "  nationality any other; no permanent residence; no legal status"
    assert shown.lines[2].startswith("NOT KNOWN, so denied claude-fable-5: 2 registered callers (acme 1, no org 1)")
    assert shown.lines[-1] == "  …"
    assert await gate.revision() == 1


async def test_lifting_under_an_order_waits_and_says_so(gate, portcullis):
    await portcullis("restrict", "claude-fable-5", "--deny-nationality", "CN", "--id", "d-1", *ORDER)
    shown = await portcullis("lift", "d-1", "--dry-run")
    assert "GAINS claude-fable-5: 3 registered callers (acme 1, no org 2)" in shown.out
    assert "needs one approver" in shown.lines
    shown = await portcullis("lift", "d-1")
    assert shown.code == Exit.AWAITING_APPROVAL
    change = re.fullmatch(r"STILL DENIED: waits for one approver \(change (c-[0-9a-f]{8})\)", shown.lines[0])[1]
    assert shown.lines[1].startswith("opens claude-fable-5 to: nationality CN")
    assert shown.lines[-1] == f"another person, an approver: portcullis change approve {change}"
    assert (await portcullis("lift", "d-1", "--json")).code == Exit.AWAITING_APPROVAL
    assert await gate.revision() == 2


# ------------------------------------------------------------------------------------------------ online --only


async def test_off_for_all_becomes_off_for_some_in_one_revision(gate, portcullis):
    await portcullis("offline", "claude-fable-5", "--public-message", "Under review.", *ORDER)
    shown = await portcullis("online", "claude-5-fable", "--only", "us-person", "--dry-run")
    assert shown.lines[0].startswith("GAINS claude-fable-5: 4 registered callers (no org 4)")
    shown = await portcullis("online", "claude-5-fable", "--only", "us-person", "--note", "counsel agrees")
    assert shown.code == Exit.AWAITING_APPROVAL
    shown = await portcullis("change", "list", token=APPROVER)
    assert re.search(r"c-\w+ +awaiting approval +demo-operator .* claude-fable-5 +counsel agrees", shown.out)
    shown = await portcullis("change", "approve", token=APPROVER)
    assert shown.code == Exit.DONE
    assert re.match(r"APPROVED c-\w+ · claude-fable-5 · revision 3 · enforced on 1 of 1 replica", shown.out)
    (directive,) = (await gate.get("/api/v1/directives"))["directives"]
    (order,) = (await gate.get("/api/v1/orders"))["orders"]
    assert (directive["order"], directive["public_message"]) == (order["id"], "Under review.")
    assert [await decision(gate, name) for name in ("demo-alice", "demo-chen")] == ["permit", "deny"]


async def test_without_an_order_one_person_stages(gate, portcullis):
    await portcullis("offline", "claude-fable-5")
    shown = await portcullis("online", "claude-fable-5", "--only", "us-person")
    assert shown.code == Exit.DONE
    assert shown.out.startswith("ONLINE claude-fable-5 only for us-person · revision 3 · ")


async def test_staging_leaves_what_covers_others_too(gate, portcullis):
    shown = await portcullis("online", "claude-fable-5", "--only", "us-person")
    assert (shown.code, shown.err) == (Exit.REFUSED, "portcullis: claude-fable-5 is not offline\n")
    broad = (await gate.post("/api/v1/offline", {"models": ["tag:controlled"]}))["hold"]
    shown = await portcullis("online", "claude-fable-5", "--only", "us-person")
    assert shown.code == Exit.STILL_OFF
    assert broad in shown.err
    await portcullis("offline", "claude-fable-5")
    shown = await portcullis("online", "claude-fable-5", "--only", "us-person")
    assert shown.code == Exit.STILL_OFF
    assert "STILL OFF claude-fable-5" in shown.out
    shown = await portcullis("online", "claude-fable-5", "--only", "us-person", "--hold", broad)
    assert shown.code == Exit.DONE
    assert (await portcullis("online", "nothing", "--only", "us-person")).code == Exit.REFUSED


# ------------------------------------------------------------------------------------------------ a second person


async def test_a_change_is_shown_and_rejected(gate, portcullis):
    await portcullis("offline", "claude-fable-5", *ORDER)
    await portcullis("online", "claude-fable-5")
    change = (await gate.get("/api/v1/changes"))["changes"][0]["change"]
    shown = await portcullis("change", "show", change)
    assert shown.lines[0] == f"{change}: awaiting approval"
    assert re.fullmatch(r"by demo-operator, [0-9-]+ [0-9:]+Z: online models/claude-fable-5", shown.lines[1])
    assert shown.lines[3] == "opens claude-fable-5 to: everyone"
    assert shown.lines[4].startswith("delete holds/h-")
    assert (await portcullis("change", "approve", change)).code == Exit.NOT_ALLOWED
    shown = await portcullis("change", "reject", change, token=SECOND)
    assert shown.code == Exit.DONE
    assert shown.out.startswith(f"REJECTED {change} · ")
    assert (await portcullis("change", "show", change)).lines[0] == f"{change}: rejected, by demo-second in revision 3"
    assert (await portcullis("change", "approve", change, token=APPROVER)).code == Exit.REFUSED
    assert len((await portcullis("change", "list")).lines) == 1
    assert len((await portcullis("change", "list", "--all")).lines) == 2


async def test_nobody_agrees_to_what_they_did_not_mean(gate, portcullis):
    shown = await portcullis("change", "approve", token=APPROVER)
    assert (shown.code, shown.err) == (Exit.REFUSED, "portcullis: no change waits\n")
    for model in ("claude-fable-5", "gpt-5.4"):
        await portcullis("offline", model, *ORDER)
        await portcullis("online", model)
    shown = await portcullis("change", "approve", token=APPROVER)
    assert shown.code == Exit.REFUSED
    assert re.fullmatch(r"portcullis: name one of c-\w+, c-\w+\n", shown.err)
    assert (await portcullis("change", "approve", token="wrong")).code == Exit.NOT_ALLOWED


# ------------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("noun", "suffix", "text", "field"),
    [
        ("term", ".toml", "condition = { kind = { any_of = ['person'] } }", "condition"),
        ("group", ".json", '{"countries": ["DE", "FR"]}', "countries"),
        ("org", ".toml", "country = 'DE'", "country"),
        ("order", ".json", '{"authority": "a", "reference": "b"}', "authority"),
        (
            "directive",
            ".toml",
            "models = ['gpt-5.4']\nwho.everyone = true\nwindow.until = 2099-01-01T00:00:00Z",
            "window",
        ),
    ],
)
async def test_an_object_is_put_from_a_file_listed_shown_and_removed(
    gate, portcullis, tmp_path, noun, suffix, text, field
):
    file = tmp_path / f"x{suffix}"
    file.write_text(text)
    shown = await portcullis(noun, "put", "x", str(file))
    assert (shown.code, shown.out.split(" · ")[0]) == (Exit.DONE, f"ADDED {noun} x"), shown.err
    assert (await portcullis(noun, "put", "x", str(file))).code == Exit.REFUSED  # nothing would change
    assert any(line.split()[0] == "x" for line in (await portcullis(noun, "list")).lines)
    assert field in (await portcullis(noun, "show", "x")).json
    assert (await portcullis(noun, "remove", "x")).out.startswith("REMOVED x · ")
    assert (await portcullis(noun, "remove", "x")).code == Exit.REFUSED


async def test_an_object_that_is_there_is_replaced(gate, portcullis, tmp_path):
    (tmp_path / "eu.json").write_text('{"countries": ["DE"]}')
    shown = await portcullis("group", "put", "eu", str(tmp_path / "eu.json"), token=OTHER)
    assert shown.out.startswith("CHANGED group eu · ")
    assert (await gate.get("/api/v1/groups/eu"))["countries"] == ["DE"]


@pytest.mark.parametrize("text", ["", "[1]", "{", "x = 1979-05-27T07:32:00Z"])
async def test_a_file_that_is_none_is_exit_code_2(portcullis, tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert (await portcullis("term", "put", "x", str(tmp_path / "x.json"))).code == Exit.USAGE


# ------------------------------------------------------------------------------------------------ questions


async def test_explain_says_why(gate, portcullis):
    await portcullis("restrict", "claude-fable-5", "--only", "us-person", "--except-org", "acme", "--id", "d-1", *ORDER)
    shown = await portcullis("explain", "demo-chen", "claude-fable-5")
    assert shown.code == Exit.DONE
    assert re.fullmatch(r"DENY claude-fable-5 at anthropic · restricted by d-1 · order o-\w+", shown.lines[0])
    assert shown.lines[1:4] == ["directive d-1: applies: yes", "  not us-person: yes", "    us-person: no"]
    assert "  except org any of acme: no" in shown.lines
    shown = await portcullis("explain", "--attributes", '{"nationality": ["US"]}', "claude-5-fable")
    assert shown.lines[0] == "PERMIT claude-5-fable at anthropic"
    name = "us.anthropic.claude-fable-5-20260324-v1:0"
    shown = await portcullis("explain", "demo-acme", name, "--on-behalf-of", "demo-alice", "--provider", "bedrock")
    assert shown.lines[0] == f"PERMIT {name} at bedrock"
    shown = await portcullis("explain", "demo-alice", "nothing", "--provider", "bedrock")
    assert shown.lines[0] == "DENY nothing at bedrock · unknown_model"
    await portcullis("offline", "gpt-5.4", token=OPERATOR)
    assert (await portcullis("explain", "demo-bob", "gpt-5.4")).lines[1].startswith("hold h-")


async def test_reach_says_who_may(gate, portcullis):
    shown = await portcullis("reach", "claude-fable-5")
    assert shown.lines == [
        "claude-fable-5 · revision 1",
        "of 8 callers may: 8 registered callers (acme 1, no org 7)",
        "of 1 profile may: 1",
        "  everyone",
    ]
