"""The report as one page of HTML: no script, nothing loaded, readable on paper. Made of the facts alone."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from gateway.control.report_style import STYLE
from gateway.control.report_timeline import PROGRESS, timeline
from gateway.control.report_words import moment

Facts = Mapping[str, Any]
BASES = {
    "all_acked": "every replica acknowledged",
    "lease_expiry": "every right to serve from before had run out",
    "no_replicas": "there was no replica to prove it on",
    "lost": "Redis lost the revision",
}


def page(facts: Facts) -> str:
    """The whole page."""
    title = f"Order {facts['order']}" if facts["order"] else "All evidence"
    sections = [
        _head(facts, title),
        _short(facts),
        _figure(facts),
        _who_could(facts),
        _steps(facts),
        _proof(facts),
        _affected(facts),
        _complete(facts),
        _limits(facts),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)} · {escape(facts['gateway'])}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


# ------------------------------------------------------------------------------------------------ pieces


def _time(at: str | None, *, fine: bool = False) -> str:
    """A time, in UTC; ``fine``: with its milliseconds."""
    if not at:
        return '<span class="none">not</span>'
    shown = f"{at[:10]} <b>{at[11:23] if fine and len(at) > 23 else at[11:19]}</b>"
    return f'<time datetime="{escape(at)}">{shown}</time>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Rows of finished HTML under headings."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _section(name: str, title: str, *content: str) -> str:
    return f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(content)}</section>'


def _items(texts: Iterable[str]) -> str:
    """A list of finished HTML."""
    return f"<ul>{''.join(f'<li>{text}</li>' for text in texts)}</ul>"


def _seq(number: int) -> str:
    return f'<span class="seq">entry {number}</span>'


# ------------------------------------------------------------------------------------------------ head, in short


def _head(facts: Facts, title: str) -> str:
    entered = facts["entered"] or {}
    rows = [
        ("Authority", entered.get("authority")),
        ("Reference", entered.get("reference")),
        ("Rests on", entered.get("citation")),
        ("Asks for", entered.get("scope")),
        ("Received", moment(entered["received"]) if entered.get("received") else None),
        ("Contact", entered.get("contact")),
        ("To be reviewed on", entered.get("review")),
        ("SHA-256 of its text", entered.get("text_sha256")),
        ("Read at", entered.get("url")),
        ("The refused may learn of it", "yes" if entered.get("disclose") else "no"),
    ]
    told = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in rows if value)
    state = facts["periods"][-1]["progress"] if facts["periods"] else None
    badge = f'<span class="badge p-{state}">{PROGRESS[state]}</span>' if state else ""
    made = f"Report of the gateway <b>{escape(facts['gateway'])}</b>, made {_time(facts['made_at'])}"
    return (
        f'<header><p class="over">{made} by {escape(facts["made_by"])}. All times are UTC.</p>'
        f"<h1>{escape(title)} {badge}</h1>{f'<dl class=order>{told}</dl>' if facts['entered'] else ''}</header>"
    )


def _short(facts: Facts) -> str:
    said = facts["answers"]
    due = f" It was due at {said['due'][11:23]}, {said['after_due_ms']:.0f} ms before." if said["due"] else ""
    cards = [
        ("In force", _time(said["in_force"], fine=True), f"The revision was committed then.{due}"),
        ("Proven", _time(said["proven"], fine=True), _how(said)),
        (
            "Last permitted byte",
            _time(said["last_byte_no_later_than"], fine=True),
            "No later than this: proven for every replica." + _cut(said),
        ),
        ("First refusal", _time(said["first_refusal"], fine=True), "The first request that was refused under it."),
        ("Partly lifted", _time(said["partly_lifted"]), "From here on some could use again what it had closed."),
        ("Lifted", _time(said["lifted"]), "Nothing stands under it any more."),
        ("This copy", _time(facts["head"]["at"]), _reaches(facts)),
    ]
    shown = "".join(
        f'<div class="card"><h3>{name}</h3><p class="value">{value}</p><p>{more}</p></div>'
        for name, value, more in cards
        if "none" not in value or name in ("In force", "Proven")
    )
    return _section("short", "In short", f'<div class="cards">{shown}</div>')


def _reaches(facts: Facts) -> str:
    """How far the copy is complete, in a line."""
    first, last = facts["counts"]["first"], facts["counts"]["last"]
    return (
        f'Complete up to then, entries {first} to {last}, if verify.py says SOUND: <a href="#complete">how to look</a>.'
    )


def _how(said: Mapping[str, Any]) -> str:
    if not said["proven"]:
        return "There is no proof that it was enforced."
    expected, live = said["replicas"]
    streams = f", {said['streams_cut']} streams were cut" if said["streams_cut"] else ""
    return f"{said['elapsed_ms']:.1f} ms later: {BASES[said['basis']]} ({live} of {expected}){streams}."


def _cut(said: Mapping[str, Any]) -> str:
    return f" What was in flight was cut at {said['last_cut'][11:23]} at the latest." if said["last_cut"] else ""


def _figure(facts: Facts) -> str:
    legend = (
        '<p class="legend"><span class="key a-all"></span> everybody may use it '
        '<span class="key a-some"></span> some may <span class="key a-none"></span> nobody may. '
        "Numbers are the steps below. The axis gives each step room; it is not to scale.</p>"
    )
    return _section("timeline", "Timeline", f"<figure>{timeline(facts)}</figure>", legend)


# ------------------------------------------------------------------------------------------------ who could


def _who_could(facts: Facts) -> str:
    lead = (
        "<p>Find the period that a time falls into. Callers are those that were registered when it began; "
        "whoever else is of a kind that may is named by the profile.</p>"
    )
    if not facts["access"]:
        return _section("who", "Who could use what, when, and why", "<p>Nothing was restricted under this order.</p>")
    models = "".join(f"<h3>{escape(each['model'])}</h3>{_periods(each['periods'])}" for each in facts["access"])
    return _section("who", "Who could use what, when, and why", lead, models)


def _periods(periods: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"{_time(each['from'])}<br>until {_time(each['until']) if each['until'] else 'the end of this report'}",
            _whom(each),
            _callers(each),
            _decided(each),
        )
        for each in periods
    ]
    return _table(("When", "Who could use it", "Of the registered callers, and why", "Decided by"), rows, "who")


def _whom(period: Mapping[str, Any]) -> str:
    if period["everybody"]:
        return '<span class="chip a-all">everybody</span>'
    rule = _items(escape(each) for each in period["rule"])
    if period["nobody"]:
        return f'<span class="chip a-none">nobody</span>{rule}'
    profiles = [*map(escape, period["profiles"])]
    more = f", and {period['more_profiles']} more kinds" if period["more_profiles"] else ""
    kinds = "; <i>or</i> ".join(profiles)
    who = f'<p class="quiet">The kinds of people who could: {kinds}{more}.</p>' if profiles else ""
    return f'<span class="chip a-some">some</span>{rule}{who}'


def _callers(period: Mapping[str, Any]) -> str:
    permitted, denied = period["permitted"]["total"], period["denied"]["total"]
    count = f"<p><b>{permitted}</b> could, <b>{denied}</b> could not.</p>"
    if period["everybody"]:
        return count
    grouped: dict[tuple[str, ...], list[str]] = {}
    for caller in period["callers"]:
        grouped.setdefault(tuple(caller["why"]), []).append(caller["name"])
    told = [f"<b>{', '.join(map(escape, names))}</b>: {escape('; '.join(why))}" for why, names in grouped.items()]
    unnamed = permitted - len(period["callers"])
    return count + _items(told) + (f"<p>and {unnamed} more</p>" if unnamed > 0 else "")


def _decided(period: Mapping[str, Any]) -> str:
    if period["decided_by"] is None:
        return f"revision {period['revision']}"
    told = f"<b>{escape(period['decided_by'])}</b>, revision {period['revision']}"
    if period["set_by"]:
        told += f"<br>as <b>{escape(period['set_by']['who'])}</b> had set it in revision {period['set_by']['revision']}"
    if period["proposed_by"]:
        told += f"<br>approving what <b>{escape(period['proposed_by'])}</b> proposed"
    return told


# ------------------------------------------------------------------------------------------------ steps, proof


def _steps(facts: Facts) -> str:
    rows = [
        (f'<span class="number">{number}</span>', _time(step["at"]), _actor(step), _deed(step), _outcome(step))
        for number, step in enumerate(facts["steps"], 1)
    ]
    return _section("steps", "What was done, by whom", _table(("", "When", "Who", "What", "Outcome"), rows, "steps"))


def _actor(step: Mapping[str, Any]) -> str:
    told = f"<b>{escape(step['who'])}</b>"
    if step["proposed_by"]:
        told += f"<br>on the proposal {escape(step['proposal'])} of <b>{escape(step['proposed_by'])}</b>"
    if step["set_by"]:
        told += f"<br>as <b>{escape(step['set_by']['who'])}</b> had set it in revision {step['set_by']['revision']}"
    if step["from"]:
        told += f'<br><span class="quiet">from {escape(step["from"])}</span>'
    return told


def _deed(step: Mapping[str, Any]) -> str:
    told = _items(escape(each) for each in step["what"])
    if step["note"]:
        told += f"<blockquote>{escape(step['note'])}</blockquote>"
    if step["late_seconds"]:
        told += f'<p class="warning">{step["late_seconds"]:.0f} seconds late: it was due at {moment(step["due"])}.</p>'
    return told


def _outcome(step: Mapping[str, Any]) -> str:
    if step["revision"] is None:
        became = step["became"]
        if became is None:
            return f'<span class="warning">waits for a second person</span><br>{_seq(step["seq"])}'
        told = f"{became['what']} by <b>{escape(became['who'])}</b> in revision {became['revision']}"
        return f"{told}<br>{_seq(step['seq'])}"
    receipt = step["receipt"]
    if receipt is None:
        proof = '<span class="quiet">no receipt is here</span>'
    elif receipt["enforced"]:
        proof = f"enforced after {receipt['elapsed_ms']:.1f} ms"
    else:
        proof = (
            f'<span class="warning">not enforced: {escape(BASES.get(receipt["basis"], str(receipt["basis"])))}</span>'
        )
    return f"revision {step['revision']}<br>{proof}<br>{_seq(step['seq'])}"


def _proof(facts: Facts) -> str:
    rows = [
        (
            f"revision {step['revision']}",
            escape(replica["id"]),
            {"acked": "acknowledged", "left": "had left", "expired": "did not answer; its right to serve ran out"}.get(
                replica["state"], escape(replica["state"])
            ),
            "" if replica["ms"] is None else f"{replica['ms']:.1f} ms",
            str(replica["streams_cut"]),
        )
        for step in facts["steps"]
        if step["receipt"]
        for replica in step["receipt"]["replicas"]["list"]
    ]
    lead = (
        "<p>Milliseconds count from the commit. A revision is enforced when every replica listed then has answered.</p>"
    )
    columns = ("Revision", "Replica", "Answer", "After", "Streams cut")
    return _section("proof", "What each replica acknowledged", lead, _table(columns, rows, "proof"))


def _affected(facts: Facts) -> str:
    rows = [
        (escape(each["org"]), escape(each["restriction"]), str(each["callers"]), str(each["refused_or_cut"]))
        for each in facts["affected"]
    ]
    if not rows:
        return _section("affected", "Who was affected", "<p>Nobody was refused or cut, as far as was counted.</p>")
    columns = ("Organisation", "Restriction", "Callers", "Requests refused or cut")
    return _section("affected", "Who was affected", _table(columns, rows, "affected"))


# ------------------------------------------------------------------------------------------------ complete, limits


def _complete(facts: Facts) -> str:
    head, counts = facts["head"], facts["counts"]
    whole = (
        f"Entries <b>{counts['first']}</b> to <b>{counts['last']}</b> of the chain are here, each holding the one "
        f"before by its digest. {counts['whole']} of them are whole. {_left_out(facts)}"
    )
    signed = (
        f"The gateway signed where the chain ended at {_time(head['at'])}: entry <b>{head['seq']}</b>, "
        f"<code>{escape(head['hash'])}</code>."
    )
    keys = f"Signed with the key <code>{escape(', '.join(facts['keys']))}</code>. Compare it with the one you know."
    run = (
        "Run <code>python3 -I -S verify.py --key KEY</code> beside this file. <b>SOUND</b> means: nothing up to that "
        "time is missing, and nothing was changed. Give it a head that you hold with <code>--head FILE</code>."
    )
    before = [f"copied {_time(copy['at'])} by {escape(copy['by'])}" for copy in facts["earlier_copies"]]
    earlier = f"<p>Earlier copies:</p>{_items(before)}" if before else ""
    return _section("complete", "Is this copy complete?", _items([whole, signed, keys, run]), earlier)


def _left_out(facts: Facts) -> str:
    if not facts["order"]:
        return ""
    return (
        f"The bodies of {facts['counts']['left_out']} are left out, for they are about other things: their envelopes, "
        "which the chain holds, say that they are not about this order. The first entry is the one by which the order "
        "was entered."
    )


def _limits(facts: Facts) -> str:
    return _section("limits", "What this cannot prove", _items(map(escape, facts["limits"])))
