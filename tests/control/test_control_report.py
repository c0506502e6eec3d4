"""The report of an order answers, without help: who could use it at 18:30, why demo-bob, who decided, is it complete."""

import re
from html import unescape

from gateway.control.report import LIMITS, facts_of
from gateway.control.report_page import page
from gateway.control.report_words import condition

MODEL = "claude-fable-5"
WHO = {"not": {"term": "us-person"}}
D1 = {"models": [MODEL], "who": WHO, "order": "bis", "state": "in_force", "window": {"from": "2026-06-12T18:00:00Z"}}
EXEMPT = {"caller": {"any_of": ["demo-bob"]}}
HOSTILE = "<script>alert(1)</script>"
HEAD = {"at": "2026-06-12T20:00:00.000+00:00", "seq": 20, "hash": "ab" * 32, "gateway": "g", "by": "h"}
VIEW = {
    "gateway": "prod", "order": "bis", "made_at": "2026-06-12T20:00:00+00:00", "made_by": "auditor", "head": HEAD,
    "counts": {"whole": 12, "left_out": 8, "first": 1, "last": 20}, "keys": ["0123456789abcdef"],
}  # fmt: skip


def at(time: str) -> str:
    return f"2026-06-12T{time}.000+00:00"


def revision(number: int, time: str, actor: str, action: str, changes: dict, **more) -> dict:
    entry = {"rev": number, "at": at(time), "actor": actor, "action": action, "subject": "directives/us-only"}
    return {"kind": "revision", "body": {"entry": entry, "changes": changes, **more}}


def receipt(number: int, time: str) -> dict:
    member = {"id": "w-0", "state": "acked", "ms": 4.0, "streams_cut": 3}
    replicas = {"expected": 1, "live": 1, "list": [member]}
    return {
        "kind": "receipt",
        "body": {
            "revision": number, "enforced": True, "basis": "all_acked", "committed_at": at(time), "elapsed_ms": 4.1,
            "streams_cut": 3, "replicas": replicas,
        },
    }  # fmt: skip


def reach(number: int, time: str, who: list, directives: list) -> dict:
    total = len(who)
    model = {
        "model": MODEL, "hold": None, "directives": directives, "profiles": 4, "permitted_profiles": 2,
        "examples": ["us-person"], "permitted": {"total": total, "by_org": {}},
        "denied": {"total": 8 - total, "by_org": {}}, "who": who,
    }  # fmt: skip
    return {"kind": "reach", "body": {"revision": number, "committed": at(time), "models": [model]}}


def progressed(progress: str) -> dict:
    return {"orders/bis": {"before": {}, "after": {"authority": "BIS", "reference": HOSTILE, "progress": progress}}}


ALICE = {"caller": "aaaa", "because": [{"directive": "us-only", "by": "who"}]}
BOB = {"caller": "bbbb", "because": [{"directive": "us-only", "by": "except", "number": 0}]}
CHANGE = {"id": "c-1", "by": "demo-operator", "at": at("18:19:00"), "action": "directive.put", "subject": "d"}
STORY = [
    revision(2, "17:05:00", "demo-operator", "order.put", {"orders/bis": {"before": None, "after": {"authority": "BIS", "reference": HOSTILE}}}),
    revision(3, "17:20:00", "demo-operator", "directive.put", {"directives/us-only": {"before": None, "after": {**D1, "note": HOSTILE}}}),
    revision(4, "18:00:00", "scheduler", "window_begins", {"directives/us-only": {"before": D1, "after": {**D1, "begun": True}}, **progressed("in_force")}, due="2026-06-12 18:00:00+00:00"),
    receipt(4, "18:00:00"),
    {"kind": "change", "body": {**CHANGE, "opens": [{"model": MODEL, "profile": "caller demo-bob"}]}},
    revision(5, "18:20:00", "demo-approver", "approve", {"directives/us-only": {"before": {**D1, "begun": True}, "after": {**D1, "begun": True, "except": [EXEMPT]}}, **progressed("partly_lifted")}, change=CHANGE),
    receipt(5, "18:20:00"),
    reach(5, "18:20:00", [ALICE, BOB], ["us-only"]),
    reach(4, "18:00:00", [ALICE], ["us-only"]),
    revision(6, "19:00:00", "demo-approver", "approve", {"directives/us-only": {"before": D1, "after": {**D1, "state": "lifted"}}, **progressed("lifted")}),
    reach(6, "19:00:00", [], []),
    {"kind": "effects", "body": {"restrictions": {"us-only": {"refused": 4, "cut": 3, "first_refused": 1781287200.05, "last_refused": 1781287300.0, "first_cut": 1781287200.002, "last_cut": 1781287200.003, "by_org": {"acme": {"callers": 2, "refused_or_cut": 7}}}}}},
]  # fmt: skip


def facts() -> dict:
    entries = [{"seq": number, **entry} for number, entry in enumerate(STORY, 1)]
    return facts_of(entries, {"aaaa": "demo-alice", "bbbb": "demo-bob"}, VIEW)


def words(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def test_who_could_use_it_at_half_past_six_and_why():
    (fable,) = facts()["access"]
    (then,) = [each for each in fable["periods"] if each["from"] <= at("18:30:00") < (each["until"] or "9")]
    assert {caller["name"] for caller in then["callers"]} == {"demo-alice", "demo-bob"}
    assert then["revision"] == 5, "as it was told, though that was told before an older one"
    (bob,) = [caller["why"] for caller in then["callers"] if caller["name"] == "demo-bob"]
    assert bob == [
        (
            "exempt from us-only: whoever is the caller demo-bob; decided by demo-operator (who proposed it) and "
            "demo-approver (who approved it) in revision 5, 2026-06-12 18:20:00Z"
        )
    ]
    before = fable["periods"][0]
    assert ([c["name"] for c in before["callers"]], before["decided_by"]) == (["demo-alice"], "scheduler")
    assert before["set_by"] == {"who": "demo-operator", "revision": 3}
    assert before["until"] == at("18:20:00")


def test_what_is_asked_first():
    said = facts()["answers"]
    assert (said["in_force"], said["after_due_ms"], said["elapsed_ms"]) == (at("18:00:00"), 0.0, 4.1)
    assert said["last_byte_no_later_than"] == "2026-06-12T18:00:00.004+00:00"
    assert (said["partly_lifted"], said["lifted"]) == (at("18:20:00"), at("19:00:00"))
    assert said["first_refusal"] == "2026-06-12T18:00:00.050+00:00"


def test_the_page_says_it_and_is_safe():
    html = page(facts())
    said = words(html)
    for text in (
        "Is this copy complete?", "Entries 1 to 20", "python3 -I -S verify.py", "exempt from us-only",
        "approving what demo-operator proposed", "approved by demo-approver in revision 5", "acme us-only 2 7",
        *LIMITS,
    ):  # fmt: skip
        assert text in said, text
    assert "<script" not in html
    assert HOSTILE in said, "shown as text"
    assert not re.search(r'(src|href)="(?!#)', html), "nothing is loaded"


def test_an_order_that_nothing_was_done_under_has_a_page_too():
    told = facts_of([], {}, {**VIEW, "counts": {**VIEW["counts"], "whole": 0}})
    assert "Nothing was restricted under this order." in page(told)
    assert "All evidence" in page({**told, "order": None})


def test_conditions_in_words():
    table = {
        "anybody": {"everyone": True},
        "not us-person": WHO,
        "of nationality any of CN or RU": {"nationality": {"any_of": ["CN", "RU"]}},
        "of nationality nothing but US": {"nationality": {"subset_of": ["US"]}},
        "of the organisation acme and (a service or us-person)": {
            "all": [{"org": {"any_of": ["acme"]}}, {"any": [{"kind": {"any_of": ["service"]}}, {"term": "us-person"}]}]
        },
    }
    for said, asked in table.items():
        assert condition(asked) == said
