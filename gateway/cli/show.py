"""What people read. Words that others wrote are shown without control characters."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.cli.client import Reply

DOT = " · "


def clean(text: object) -> str:
    """A text that cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(text))


def when(at: str) -> str:
    """An RFC 3339 time to the second, in UTC."""
    return f"{clean(at)[:19].replace('T', ' ')}Z"


def counted(number: int, noun: str) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ------------------------------------------------------------------------------------------------ receipts


def receipt_line(headline: str, receipt: dict[str, Any], *tail: str) -> str:
    """A receipt in one line: what, which revision, whether it is enforced and how that is known."""
    parts = [headline, f"revision {receipt['revision']}", enforcement(receipt)]
    if receipt["streams_cut"]:
        parts.append(f"{counted(receipt['streams_cut'], 'stream')} cut")
    if receipt["draining"]:
        parts.append(f"{receipt['draining']} draining")
    return DOT.join([*parts, *tail])


def enforcement(receipt: dict[str, Any]) -> str:
    """Whether a receipt proves it, and how."""
    replicas = receipt["replicas"]
    took = f"after {_milliseconds(receipt['elapsed_ms'])}"
    if receipt.get("durable") is False:
        return f"NOT ENFORCED {took}: too few of Redis' replicas have it, and a failover could forget it"
    match receipt["basis"]:
        case "all_acked":
            gone = sum(member["state"] == "left" for member in replicas["list"])
            left = f" ({gone} left)" if gone else ""
            return f"enforced on {replicas['live']} of {counted(replicas['expected'], 'replica')}{left} {took}"
        case "lease_expiry":
            expired = sum(member["state"] == "expired" for member in replicas["list"])
            return f"enforced {took}: {counted(expired, 'replica')} did not answer, and the lease ran out"
        case "no_replicas":
            return "NOT ENFORCED: there is no replica"
        case _:
            acked = sum(member["state"] in ("acked", "left") for member in replicas["list"])
            where = f"{acked} of {counted(replicas['expected'], 'replica')}"
            return f"NOT YET ENFORCED: {where} {took} (see: portcullis receipt {receipt['revision']})"


def nacks(replicas: Iterable[dict[str, Any]]) -> None:
    """Say which replicas do not understand the policy whole; what they do not, they deny."""
    for replica in replicas:
        if replica.get("nack"):
            parts, rev = ", ".join(replica["nack"]["parts"]), replica["nack"]["revision"]
            print(clean(f"{replica['id']} DENIES WHAT IT CANNOT READ of revision {rev}: {parts}"))


def is_local(body: Any) -> bool:
    """Whether an answer is about this machine alone, because Redis cannot be reached."""
    return isinstance(body, dict) and body.get("scope") == "this machine"


def local(headline: str, body: dict[str, Any], *tail: str) -> None:
    """What was done on this machine alone, and what that means, in plain words."""
    parts = [f"THIS MACHINE ONLY: {headline}"]
    if "workers" in body:
        held, expected = body["workers"]["holding"], body["workers"]["expected"]
        where = f"on {held} of {counted(expected, 'worker')}"
        parts.append(f"held {where}" if held == expected else f"HELD ONLY {where}")
    if body.get("streams_cut"):
        parts.append(f"{counted(body['streams_cut'], 'stream')} cut")
    print(DOT.join([*parts, *tail]))
    if "detail" in body:
        print(clean(body["detail"]), file=sys.stderr)
    if body.get("kept") is False:
        print("IT IS NOT ON DISK: a restart of this machine's gateway forgets it (see the log)", file=sys.stderr)
    if body.get("may_come_back"):
        print(
            "it may have been committed just before Redis went away; then it stands when Redis is back", file=sys.stderr
        )


def still_off(body: Any) -> None:
    """Say which models stay offline, and by which holds."""
    for held in body.get("still_held") or ():
        for hold in held["holds"]:
            print(f"STILL OFF {clean(held['model'])}: held by {hold_words(hold)}")


def hold_words(hold: dict[str, Any]) -> str:
    """Who holds, since when, by which hold and under which order."""
    order = f", order {clean(hold['order'])}" if hold.get("order") else ""
    return f"{clean(hold['by'])} since {when(hold['at'])} (hold {clean(hold['id'])}{order})"


# ------------------------------------------------------------------------------------------------ changes


def is_waiting(body: Any) -> bool:
    """Whether an answer says that a second person must agree."""
    return isinstance(body, dict) and body.get("awaiting") == "approval"


def waiting(body: dict[str, Any]) -> None:
    """Say that nothing has changed yet, what the change would open, and what to do next."""
    change = clean(body["change"])
    print(f"STILL DENIED: waits for one approver (change {change})")
    opens(body)
    print(f"another person, an approver: portcullis change approve {change}")


def opens(body: dict[str, Any]) -> None:
    """What a change lets through that an order denied."""
    for opening in body["opens"]:
        more = opening["profiles"] - 1
        others = f", and {counted(more, 'other profile')}" if more else ""
        print(clean(f"opens {opening['model']} to: {opening['profile']}{others}"))


SIDES = {"gains": "GAINS", "loses": "LOSES", "not_known": "NOT KNOWN, so denied"}
SHOWN_EXAMPLES = 5


def preview(body: dict[str, Any]) -> None:
    """Who would gain, who would lose, and who because something is not known."""
    if "as_of" in body:
        print(clean(f"as it will be from {body['as_of']}:"))
    for side, word in SIDES.items():
        for effect in body[side]:
            print(clean(f"{word} {effect['model']}: {_whom(effect)}"))
            examples(effect["examples"])
    if not any(body[side] for side in SIDES):
        print("nobody gains or loses anything")
    if body["callers"]["capped"]:
        print(f"counted among the first {body['callers']['looked_at']} of {body['callers']['of']} callers")
    if body["needs_approval"]:
        print("needs one approver")
        opens(body)


def _whom(effect: dict[str, Any]) -> str:
    profiles = effect["profiles"]
    parts = [callers(effect["callers"])]
    if "recent_requests" in effect:
        parts.append(f"{counted(effect['recent_requests'], 'request')} lately")
    parts.append("too many profiles to count" if profiles is None else counted(profiles, "profile"))
    return DOT.join(parts)


def callers(counts: dict[str, Any]) -> str:
    """Registered callers, by organisation."""
    by_org = ", ".join(f"{org} {number}" for org, number in counts["by_org"].items())
    return counted(counts["total"], "registered caller") + (f" ({by_org})" if by_org else "")


def examples(said: Sequence[str]) -> None:
    """Some profiles, a line each."""
    for example in said[:SHOWN_EXAMPLES]:
        print(f"  {clean(example)}")
    if len(said) > SHOWN_EXAMPLES:
        print("  …")


def _milliseconds(elapsed: float) -> str:
    return f"{elapsed:.1f} ms" if elapsed < 1000 else f"{elapsed / 1000:.1f} s"


# ------------------------------------------------------------------------------------------------ problems, tables


def problem(reply: Reply) -> None:
    """A refusal, on standard error."""
    if not isinstance(reply.body, dict) or "title" not in reply.body:
        print(f"portcullis: the answer was {reply.status}, and no problem of the admin API", file=sys.stderr)
        return
    print(f"portcullis: {clean(reply.body['title'])} ({reply.status})", file=sys.stderr)
    print(clean(reply.body.get("detail", "")), file=sys.stderr)
    still_off(reply.body)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings; in a pipe as wide as they are."""
    from rich.console import Console  # noqa: PLC0415 - most commands need no table, and start faster
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text("-" if cell in (None, "", []) else clean(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 500, highlight=False).print(shown)
