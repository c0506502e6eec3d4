"""What operators type, what they read, and the exit codes that scripts rely on."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from control_harness import APPROVER, OTHER, SECOND, VIEWER

from gateway.cli.app import epilog
from gateway.cli.exits import MEANINGS, Exit
from gateway.cli.show import clean, enforcement

ORDER = ("--authority", "Department of Commerce", "--reference", "BIS-2026-0612")


async def test_offline_prints_the_proof_in_one_line(gate, portcullis):
    await gate.replica("w1", cut_per_revision=37)
    shown = await portcullis("offline", "claude-fable-5", "--note", "letter of 17:05")
    assert shown.code == Exit.DONE
    assert re.fullmatch(
        r"OFFLINE claude-fable-5 · revision 2 · enforced on 2 of 2 replicas after [0-9.]+ ms · 37 streams cut"
        r" · hold (h-[0-9a-f]{8}) \(undo: portcullis undo \1\)\n",
        shown.out,
    )
    (hold,) = (await gate.get("/api/v1/holds"))["holds"]
    assert hold["note"] == "letter of 17:05"


async def test_offline_says_everything_that_the_api_takes(gate, portcullis):
    words = (
        "--public-message",
        "Back soon.",
        "--order-url",
        "https://example.org/o",
        "--disclose",
        "--let-finish",
        "30",
    )
    shown = await portcullis("offline", "claude-fable-5", "gpt-5.4", "--pattern", "family:gemini-3", *ORDER, *words)
    assert shown.code == Exit.DONE
    (hold,) = (await gate.get("/api/v1/holds"))["holds"]
    (order,) = (await gate.get("/api/v1/orders"))["orders"]
    assert hold["models"] == ["claude-fable-5", "gpt-5.4", "family:gemini-3"]
    assert hold["public_message"] == "Back soon."
    assert hold["in_flight"] == {"let_finish": 30.0}
    assert hold["order"] == order["id"]
    assert (order["url"], order["disclose"]) == ("https://example.org/o", True)
    await portcullis("offline", "gpt-5.4-mini", "--order", order["id"])
    assert (await gate.get("/api/v1/holds"))["holds"][0]["order"] == order["id"]


async def test_a_pattern_that_means_nothing_today_is_said(gate, portcullis):
    shown = await portcullis("offline", "--pattern", "family:nova")
    assert shown.code == Exit.DONE
    assert shown.out.startswith("OFFLINE nothing today · ")
    assert "family:nova means no model today" in shown.err


@pytest.mark.parametrize(
    "words",
    [
        ("offline",),
        ("offline", "*"),
        ("offline", "family:fable"),
        ("offline", "gpt-5.4", "--authority", "x"),
        ("offline", "gpt-5.4", "--disclose"),
        ("offline", "gpt-5.4", "--order", "o-1", *ORDER),
        ("offline", "gpt-5.4", "--wait", "121"),
        ("offline", "gpt-5.4", "--token", "x"),
        ("online",),
        ("receipt", "x"),
        ("restrict", "gpt-5.4"),
        ("restrict", "--only", "us-person"),
        ("restrict", "gpt-5.4", "--only", "us-person", "--who", "{}"),
        ("restrict", "gpt-5.4", "--who", "[]"),
        ("restrict", "gpt-5.4", "--who", "{"),
        ("online", "gpt-5.4", "--note", "x"),
        ("explain", "gpt-5.4"),
        ("explain", "demo-bob", "gpt-5.4", "--attributes", "{}"),
        ("term", "put", "x", "/nothing.toml"),
        ("caller", "add", "ada", "--permanent-residence", "none", "--permanent-residence", "US"),
        ("operator", "add", "ada"),
        ("nothing",),
    ],
)
async def test_a_command_line_that_is_wrong_changes_nothing(gate, portcullis, words):
    shown = await portcullis(*words)
    assert shown.code == Exit.USAGE
    assert shown.err
    assert await gate.revision() == 1


async def test_a_typo_is_answered_with_near_names(gate, portcullis):
    shown = await portcullis("offline", "claude-fabel-5")
    assert shown.code == Exit.REFUSED
    assert "There is no such model (404)" in shown.err
    assert "Did you mean claude-fable-5" in shown.err


async def test_not_yet_enforced_is_exit_code_4(empty_gate, portcullis):
    await empty_gate.replica(deaf=True)
    shown = await portcullis("offline", "claude-fable-5", "--wait", "0")
    assert shown.code == Exit.NOT_ENFORCED
    assert "NOT YET ENFORCED: 0 of 1 replica" in shown.out
    assert "(see: portcullis receipt 2)" in shown.out
    shown = await portcullis("receipt", "2")
    assert shown.code == Exit.NOT_ENFORCED


async def test_no_replica_is_exit_code_4(portcullis):
    shown = await portcullis("offline", "claude-fable-5")
    assert shown.code == Exit.NOT_ENFORCED
    assert "NOT ENFORCED: there is no replica" in shown.out


async def test_online_brings_a_model_back(gate, portcullis):
    hold = (await gate.post("/api/v1/models/claude-fable-5/offline"))["hold"]
    shown = await portcullis("online", "claude-5-fable")
    assert shown.code == Exit.DONE
    assert shown.out.startswith(
        f"ONLINE claude-fable-5 · released {hold} · revision 3 · enforced on 1 of 1 replica after"
    )
    assert (await portcullis("online", "claude-fable-5")).code == Exit.REFUSED


async def test_online_that_leaves_a_hold_says_so_and_is_exit_code_6(gate, portcullis):
    body = {"models": ["tag:controlled"], "order": {"authority": "a", "reference": "b"}}
    other = await gate.post("/api/v1/offline", body, token=OTHER)
    await portcullis("offline", "claude-fable-5")
    for begins in ("Released h-", None):
        shown = await portcullis("online", "claude-fable-5")
        assert shown.code == Exit.STILL_OFF
        assert begins is None or shown.out.startswith(begins)
        assert re.search(
            rf"STILL OFF claude-fable-5: held by {OTHER} since [0-9-]+ [0-9:]+Z \(hold {other['hold']}, order {other['order']}\)",
            shown.out,
        )
    shown = await portcullis("online", "claude-fable-5", "--hold", other["hold"])
    assert shown.code == Exit.AWAITING_APPROVAL
    shown = await portcullis("change", "approve", token=APPROVER)
    assert shown.code == Exit.DONE
    assert "claude-fable-5, claude-mythos-5 · revision 5 · enforced on 1 of 1 replica" in shown.out


async def test_undo_takes_back_ones_newest_hold(gate, portcullis):
    await portcullis("offline", "gpt-5.4")
    await portcullis("offline", "claude-fable-5")
    await portcullis("offline", "gemini-3-pro", token=OTHER)
    shown = await portcullis("undo")
    assert shown.code == Exit.DONE
    assert shown.out.startswith("ONLINE claude-fable-5 · ")
    shown = await portcullis("undo")
    assert shown.out.startswith("ONLINE gpt-5.4 · ")
    shown = await portcullis("undo")
    assert (shown.code, shown.err) == (Exit.REFUSED, "portcullis: no hold that stands is yours\n")


async def test_undo_names_a_hold(gate, portcullis):
    hold = (await gate.post("/api/v1/models/claude-fable-5/offline"))["hold"]
    assert (await portcullis("undo", hold, token=OTHER)).code == Exit.NOT_ALLOWED
    assert (await portcullis("undo", "h-1")).code == Exit.REFUSED
    assert (await portcullis("undo", hold)).code == Exit.DONE


async def test_status_says_what_is_off_by_whom_and_under_which_order(gate, portcullis):
    shown = await portcullis("status")
    assert shown.lines[0].startswith("revision 1 · 0 of ")
    assert shown.lines[1:] == ["1 of 1 replica enforce revision 1"]
    await portcullis("offline", "claude-fable-5", *ORDER)
    shown = await portcullis("status", token=VIEWER)
    assert shown.code == Exit.DONE
    assert "1 of " in shown.lines[0]
    assert re.search(
        r"claude-fable-5 +.*Z +demo-operator +h-\w+ +Department of Commerce BIS-2026-0612 \(o-\w+\)", shown.out
    )


async def test_status_warns_when_there_is_no_replica(portcullis):
    assert (await portcullis("status")).lines[-1].startswith("NO REPLICA")


async def test_holds_are_listed(gate, portcullis):
    await portcullis("offline", "claude-fable-5", "--note", "x" * 300)
    shown = await portcullis("holds")
    assert shown.code == Exit.DONE
    assert shown.lines[0].split() == ["HOLD", "MODELS", "SINCE", "BY", "ORDER", "NOTE"]
    assert "claude-fable-5" in shown.lines[1]
    assert "x" * 300 in shown.lines[1]


async def test_what_others_wrote_cannot_steer_a_terminal(gate, portcullis):
    await gate.post("/api/v1/models/claude-fable-5/offline", {"note": "\x1b]0;owned\x07\x1b[2J[bold]"})
    shown = await portcullis("holds")
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out
    assert "[bold]" in shown.out


async def test_replicas_and_receipts_are_shown(gate, portcullis):
    await portcullis("offline", "claude-fable-5")
    shown = await portcullis("replicas")
    assert shown.lines[1].split()[:3] == ["w0", "live", "2"]
    shown = await portcullis("receipt", "2")
    assert shown.code == Exit.DONE
    assert "revision 2 · enforced on 1 of 1 replica" in shown.lines[0]
    assert shown.lines[2].split()[:2] == ["w0", "acked"]
    assert (await portcullis("receipt", "9")).code == Exit.REFUSED


async def test_workers_are_restarted(gate, portcullis):
    async def replace():
        return 2

    gate.restart = replace
    shown = await portcullis("replicas", "restart")
    assert (shown.code, shown.lines) == (Exit.DONE, ["RESTARTED 2 workers"])
    assert (await portcullis("replicas", "restart", token="demo-viewer")).code == Exit.NOT_ALLOWED
    assert (await portcullis("replicas", "stop")).code == Exit.USAGE


async def test_the_policy_is_shown_as_json(gate, portcullis):
    shown = await portcullis("policy", "show")
    assert shown.json["schema"] == 1
    assert "claude-fable-5" in shown.json["models"]
    assert shown.json == (await portcullis("policy", "show", "--json")).json


# ------------------------------------------------------------------------------------------------ people


async def test_a_caller_is_added_given_a_key_and_removed(gate, portcullis):
    words = ("--org", "acme", "--nationality", "GB", "--nationality", "FR", "--permanent-residence", "none")
    shown = await portcullis("caller", "add", "ada", *words, token=APPROVER)
    assert shown.out.startswith("ADDED ada · revision 2 · enforced on 1 of 1 replica")
    shown = await portcullis("caller", "key", "add", "ada", "--note", "laptop", token=APPROVER)
    assert shown.code == Exit.DONE
    key = shown.lines[-1]
    key_id = key.split("_")[1]
    assert re.fullmatch(r"pc_k-[0-9a-f]{8}_[\w-]{43}", key)
    shown = await portcullis("caller", "show", "ada")
    assert re.search(r"nationality +FR, GB\n", shown.out)
    assert re.search(r"permanent_residence +none\n", shown.out)
    assert re.search(r"legal_status +not known\n", shown.out)
    assert f"key {key_id}" in shown.out
    assert key not in shown.out
    shown = await portcullis("caller", "key", "remove", "ada", key_id, token=APPROVER)
    assert shown.code == Exit.DONE
    shown = await portcullis("caller", "remove", "ada", token=APPROVER)
    assert shown.out.startswith("REMOVED ada · ")
    assert (await portcullis("caller", "remove", "ada", token=APPROVER)).code == Exit.REFUSED


async def test_what_is_known_of_a_caller_may_have_an_end(gate, portcullis):
    until = ("--nationality", "GB", "--expires", "2031-05-01T02:00:00+02:00")
    assert (await portcullis("caller", "add", "ada", *until, token=APPROVER)).code == Exit.DONE
    assert re.search(r"known until +2031-05-01 00:00:00Z\n", (await portcullis("caller", "show", "ada")).out)
    shown = await portcullis("caller", "add", "bea", "--expires", "2031-05-01", token=APPROVER)
    assert shown.code == Exit.REFUSED
    assert "with a zone" in shown.err


async def test_what_is_known_of_a_caller_is_said_anew_from_a_file(gate, portcullis, tmp_path):
    file = tmp_path / "bob.toml"
    file.write_text('kind = "person"\nattributes = { nationality = ["FR"], expires = 2031-05-01T02:00:00+02:00 }\n')
    shown = await portcullis("caller", "put", "demo-bob", str(file), token=APPROVER)
    assert shown.out.startswith("CHANGED caller demo-bob · ")
    found = await gate.get("/api/v1/callers/demo-bob")
    assert found["attributes"] == {"nationality": ["FR"], "expires": "2031-05-01T00:00:00Z"}
    assert list(found["keys"]) == ["seed"]
    assert (await portcullis("caller", "put", "ada", str(file), token=APPROVER)).out.startswith("ADDED caller ada · ")


async def test_nobody_is_added_under_the_id_of_whoever_comes_by_a_token(gate, portcullis):
    shown = await portcullis("caller", "add", "oidc:corp:alice", token=APPROVER)
    assert shown.code == Exit.REFUSED
    assert "signed token" in shown.err


async def test_somebody_else_vouches_for_an_operator(gate, portcullis):
    token = (await portcullis("operator", "add", "eve", "--role", "approver", token=APPROVER)).lines[-1]
    assert re.search(rf"eve +approver +{APPROVER}", (await portcullis("operator", "list", token=APPROVER)).out)
    shown = await portcullis("operator", "vouch", "eve", token=SECOND)
    assert shown.code == Exit.REFUSED
    assert "portcullis operator token eve" in shown.err
    own = (await portcullis("operator", "token", "eve", token=token)).lines[-1]
    shown = await portcullis("operator", "vouch", "eve", token=SECOND)
    assert shown.out.startswith("VOUCHED for eve · ")
    assert re.search(r"eve +approver +-", (await portcullis("operator", "list", token=own)).out)


async def test_a_caller_that_is_there_is_not_overwritten(gate, portcullis):
    shown = await portcullis("caller", "add", "demo-bob", token=APPROVER)
    assert shown.code == Exit.REFUSED
    assert "412" in shown.err
    assert (await portcullis("caller", "add", "ada")).code == Exit.NOT_ALLOWED


async def test_callers_are_listed(gate, portcullis):
    shown = await portcullis("caller", "list", "--limit", "2")
    assert [line.split()[0] for line in shown.lines[1:3]] == ["demo-acme", "demo-alice"]
    assert shown.lines[-1] == "more: portcullis caller list --after demo-alice"


async def test_an_operator_is_added_given_another_token_and_removed(gate, portcullis):
    shown = await portcullis("operator", "add", "eve", "--role", "viewer", "--role", "operator", token=APPROVER)
    assert shown.out.startswith("ADDED eve · ")
    first = shown.lines[-1]
    assert (await portcullis("status", token=first)).code == Exit.DONE
    second = (await portcullis("operator", "token", "eve", token=APPROVER)).lines[-1]
    assert (await portcullis("status", token=first)).code == Exit.NOT_ALLOWED
    assert (await portcullis("status", token=second)).code == Exit.DONE
    shown = await portcullis("operator", "list", token=APPROVER)
    assert re.search(r"eve +operator, viewer", shown.out)
    assert (await portcullis("operator", "remove", "eve", token=APPROVER)).code == Exit.DONE
    assert (await portcullis("operator", "remove", SECOND, token=APPROVER)).code == Exit.DONE
    assert (await portcullis("operator", "remove", APPROVER, token=APPROVER)).code == Exit.REFUSED


# ------------------------------------------------------------------------------------------------ json, exit codes


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("status",), "models"),
        (("holds",), "holds"),
        (("replicas",), "replicas"),
        (("receipt", "2"), "basis"),
        (("policy", "show"), "schema"),
        (("caller", "list"), "callers"),
        (("caller", "show", "demo-bob"), "attributes"),
        (("operator", "list"), "operators"),
        (("offline", "gpt-5.4"), "hold"),
        (("undo",), "released"),
        (("online", "claude-fable-5"), "still_held"),
        (("caller", "add", "ada"), "revision"),
        (("caller", "remove", "demo-bob"), "revision"),
        (("caller", "key", "add", "demo-bob"), "key"),
        (("caller", "key", "remove", "demo-bob", "seed"), "revision"),
        (("operator", "add", "eve", "--role", "viewer"), "token"),
        (("operator", "token", "demo-other"), "token"),
        (("operator", "remove", "demo-other"), "revision"),
        (("restrict", "gpt-5.4", "--only", "us-person"), "revision"),
        (("restrict", "gpt-5.4", "--only", "us-person", "--dry-run"), "loses"),
        (("online", "claude-fable-5", "--only", "us-person"), "change"),
        (("online", "claude-fable-5", "--dry-run"), "gains"),
        (("term", "list"), "terms"),
        (("term", "show", "us-person"), "condition"),
        (("term", "remove", "us-person"), "revision"),
        (("group", "list"), "groups"),
        (("org", "list"), "orgs"),
        (("order", "list"), "orders"),
        (("directive", "list"), "directives"),
        (("change", "list"), "changes"),
        (("explain", "demo-chen", "gpt-5.4"), "trace"),
        (("reach", "gpt-5.4"), "permitted"),
    ],
)
async def test_every_command_prints_the_raw_answer_on_request(gate, portcullis, words, field):
    await gate.post("/api/v1/models/claude-fable-5/offline", token=APPROVER)
    shown = await portcullis(*words, "--json", token=APPROVER)
    assert shown.code == Exit.DONE
    assert field in shown.json
    assert len(shown.lines) == 1


async def test_a_problem_is_raw_on_request_too(gate, portcullis):
    shown = await portcullis("offline", "claude-fabel-5", "--json")
    assert shown.code == Exit.REFUSED
    assert shown.json["status"] == 404


@pytest.mark.parametrize("token", [None, "wrong", "wröng", "a\nb"])
async def test_without_a_token_that_counts_it_is_exit_code_5(gate, portcullis, token):
    shown = await portcullis("status", token=token)
    assert shown.code == Exit.NOT_ALLOWED
    assert "token" in shown.err
    assert "wrong" not in shown.err


async def test_a_role_that_is_too_low_is_exit_code_5(gate, portcullis):
    shown = await portcullis("offline", "gpt-5.4", token=VIEWER)
    assert shown.code == Exit.NOT_ALLOWED
    assert "needs the role approver or operator" in shown.err


async def test_an_unreachable_gateway_is_exit_code_3(portcullis):
    with socket.socket() as bound:  # bound, and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        shown = await portcullis("status", PORTCULLIS_URL=url)
    assert shown.code == Exit.UNREACHABLE
    assert f"{url} cannot be reached" in shown.err


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8081", "http://", "http://x:port", "http://me@x/"])
async def test_an_address_that_is_none_is_exit_code_2(portcullis, url):
    assert (await portcullis("status", PORTCULLIS_URL=url)).code == Exit.USAGE


async def test_proxies_of_the_environment_are_not_asked(gate, portcullis):
    shown = await portcullis(
        "status", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", all_proxy="x://"
    )
    assert shown.code == Exit.DONE


# ------------------------------------------------------------------------------------------------ profiles


async def test_a_profile_gives_address_and_token(gate, portcullis, tmp_path):
    (tmp_path / "portcullis").mkdir()
    (tmp_path / "token").write_text("demo-viewer\n")
    url = portcullis.environment["PORTCULLIS_URL"]
    (tmp_path / "portcullis/config.toml").write_text(
        f"[profiles.file]\nurl = '{url}'\ntoken_file = '{tmp_path}/token'\n"
        f"[profiles.env]\nurl = '{url}'\ntoken_env = 'MY_TOKEN'\n"
        f"[profiles.none]\nurl = '{url}'\n"
        f"[profiles.inline]\nurl = '{url}'\ntoken = 'x'\n"
        f"[profiles.gone]\nurl = '{url}'\ntoken_file = '{tmp_path}/gone'\n"
    )
    nowhere = {"PORTCULLIS_URL": "http://127.0.0.1:1", "token": "not-this-one"}
    assert (await portcullis("status", "--profile", "file", **nowhere)).code == Exit.DONE
    assert (await portcullis("status", PORTCULLIS_PROFILE="file", **nowhere)).code == Exit.DONE
    assert (await portcullis("status", "--profile", "env", MY_TOKEN="demo-viewer", **nowhere)).code == Exit.DONE
    assert (await portcullis("status", "--profile", "env", **nowhere)).code == Exit.NOT_ALLOWED
    for name in ("none", "inline", "gone", "missing"):
        shown = await portcullis("status", "--profile", name)
        assert shown.code == Exit.USAGE, name
        assert name in shown.err


async def test_a_profile_without_a_file_is_said(portcullis):
    shown = await portcullis("status", "--profile", "prod")
    assert shown.code == Exit.USAGE
    assert "config.toml" in shown.err


# ------------------------------------------------------------------------------------------------ the program

PROGRAM = [sys.executable, "-m", "gateway.cli"]


def test_help_lists_every_exit_code():
    shown = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    for code, meaning in MEANINGS.items():
        assert f"{code:d}  {meaning}" in " ".join(epilog().split("\n"))
        assert f"{code:d}  {meaning.split()[0]}" in shown
    for command in (
        "status",
        "offline",
        "online",
        "undo",
        "caller",
        "operator",
        "replicas",
        "receipt",
        "holds",
        "policy",
        "restrict",
        "lift",
        "change",
        "directive",
        "term",
        "group",
        "org",
        "order",
        "explain",
        "reach",
        "serve",
        "demo",
        "init",
    ):
        assert f"\n  {command} " in shown
    assert subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def test_a_terminal_that_knows_no_unicode_gets_something():
    environment = {
        "PORTCULLIS_URL": "http://127.0.0.1:1",
        "PORTCULLIS_TOKEN": "x",
        "PYTHONIOENCODING": "ascii",
        "TERM": "dumb",
    }
    done = subprocess.run([*PROGRAM, "offline", "--help"], capture_output=True, check=True, env=environment)
    assert done.stdout.startswith(b"Usage: portcullis offline")
    done = subprocess.run([*PROGRAM, "status"], capture_output=True, check=False, env=environment)
    assert done.returncode == Exit.UNREACHABLE


def test_status_does_not_import_the_gateway():
    script = "import sys, gateway.cli.app; print([name for name in sys.modules if name in ('aiohttp', 'redis', 'uvloop', 'rich')])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_command_takes_a_token_as_an_argument():
    source = "".join(path.read_text() for path in Path("gateway/cli").glob("*.py"))
    assert "--token" not in source


# ------------------------------------------------------------------------------------------------ words

MEMBERS = [{"state": "acked"}, {"state": "expired"}, {"state": "left"}]


@pytest.mark.parametrize(
    ("basis", "elapsed", "said"),
    [
        ("all_acked", 4.07, "enforced on 1 of 3 replicas (1 left) after 4.1 ms"),
        ("lease_expiry", 5100.0, "enforced after 5.1 s: 1 replica did not answer, and the lease ran out"),
        ("no_replicas", 0.1, "NOT ENFORCED: there is no replica"),
        (None, 20000.0, "NOT YET ENFORCED: 2 of 3 replicas after 20.0 s (see: portcullis receipt 7)"),
    ],
)
def test_a_receipt_says_how_it_knows(basis, elapsed, said):
    replicas = {"expected": 3, "live": 1, "list": MEMBERS}
    assert enforcement({"basis": basis, "elapsed_ms": elapsed, "revision": 7, "replicas": replicas}) == said


def test_clean_text_has_no_control_characters():
    assert clean("a\x1b[31mé\n\u202e") == "a�[31mé��"
