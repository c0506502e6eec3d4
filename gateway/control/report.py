"""The facts of an order's report, from its evidence alone: data first, the page is made of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.control.report_words import about, condition, deeds, moment

LIMITS = tuple(
    " ".join(text.split())
    for text in """
Use around the gateway. Whoever has a provider's key of their own, or reaches the provider by another way, leaves no
trace here. Ask the provider for its usage by key.

What was at the provider already. Jobs that were accepted before (batches, files, fine-tunes, answers still being
computed) may have run on there; the gateway cut what went through it.

Whether what was known of people was true. Nationality, residence and status are as registered, or as an identity
provider said. Kept is that a decision followed from them, not that they were right.

Bytes on their way. Enforced means that no replica wrote a byte after that; what lay in a network buffer by then may
have arrived a moment later.

The time of day, beyond the clocks of the machines, unless timestamps of an authority are in the archive.

An operator who controls every machine, the signing key, and every place that heads were sent to. A head that somebody
else holds is what binds them.

Numbers of refusals are counted by the workers and written down every few seconds; what a worker that was killed had not
written is missing. The request log has each refusal.
""".strip().split("\n\n")
)
"""What no archive can show, said in every one."""

NOBODY_HIT = "nobody was refused or cut under this order, as far as was counted"


@dataclass(slots=True)
class _Story:
    """The evidence, read in its order."""

    order: str | None
    steps: list[dict[str, Any]] = field(default_factory=list)
    by_revision: dict[int, dict[str, Any]] = field(default_factory=dict)
    entered: dict[str, Any] | None = None
    periods: list[dict[str, Any]] = field(default_factory=list)
    directives: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    written: dict[tuple[str, str], int] = field(default_factory=dict)
    as_of: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    reach: list[dict[str, Any]] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)
    copies: list[dict[str, Any]] = field(default_factory=list)

    def read(self, entry: Mapping[str, Any]) -> None:
        """Take in the next entry."""
        reader = {
            "revision": self._revision,
            "receipt": self._receipt,
            "change": self._proposal,
            "reach": self._reach,
            "effects": self._effects,
            "export": self._export,
        }.get(entry["kind"])
        if reader is not None:
            reader(entry["body"], entry["seq"])

    def _revision(self, body: Mapping[str, Any], seq: int) -> None:
        entry, changes = body["entry"], body.get("changes", {})
        change = body.get("change")
        step = {
            "seq": seq,
            "at": entry["at"],
            "revision": entry["rev"],
            "who": entry["actor"],
            "action": entry["action"],
            "what": list(deeds(changes, self.order)) or [f"{entry['action']} {entry['subject']}"],
            "note": body.get("note") or _note_in(changes),
            "from": body.get("from"),
            "models": body.get("models", []),
            "proposed_by": change and change["by"],
            "proposal": change and change["id"],
            "due": body.get("due"),
            "late_seconds": body.get("late_seconds"),
            "set_by": self._set_by(entry["subject"]) if body.get("due") else None,
            "receipt": None,
        }
        if entry["action"] == "reject":
            step["what"] = [f"rejected {change['id'] if change else entry['subject']}"]
        self._decided(change, step)
        self.steps.append(step)
        self.by_revision[entry["rev"]] = step
        self._follow(changes, step)
        self.as_of[entry["rev"]] = dict(self.directives)

    def _decided(self, change: Mapping[str, Any] | None, step: Mapping[str, Any]) -> None:
        """Note at a proposal what became of it."""
        for proposed in self.steps:
            if change is not None and proposed["action"] == "propose" and proposed["proposal"] == change["id"]:
                verb = "rejected" if step["action"] == "reject" else "approved"
                proposed["became"] = {"what": verb, "who": step["who"], "revision": step["revision"]}

    def _set_by(self, subject: str) -> dict[str, Any] | None:
        """Who set what the scheduler did: the last revision of a person's that was about the same."""
        name = subject.partition("/")[2]
        about_it = (
            s for s in reversed(self.steps) if s["revision"] and s["due"] is None and name in " ".join(s["what"])
        )
        return next(({"who": s["who"], "revision": s["revision"]} for s in about_it), None)

    def _follow(self, changes: Mapping[str, Any], step: Mapping[str, Any]) -> None:
        own = changes.get(f"orders/{self.order}")
        if own is not None and own.get("after") is not None:
            self.entered = own["after"]
            self._advance(own["after"].get("progress", "received"), step)
        for path, sides in changes.items():
            kind, _, name = path.partition("/")
            if kind == "directives" and sides.get("after") is not None:
                self.directives[name] = sides["after"]
                for each in sides["after"].get("except", ()):
                    self.written.setdefault((name, repr(each)), step["revision"])

    def _advance(self, progress: str, step: Mapping[str, Any]) -> None:
        if self.periods and self.periods[-1]["progress"] == progress:
            return
        if self.periods:
            self.periods[-1]["until"] = step["at"]
        self.periods.append({"progress": progress, "from": step["at"], "until": None, "revision": step["revision"]})

    def _receipt(self, body: Mapping[str, Any], seq: int) -> None:
        step = self.by_revision.get(body["revision"])
        if step is not None:
            proven = later(body["committed_at"], body["elapsed_ms"])
            step["receipt"] = {**body, "seq": seq, "proven_at": proven if body["enforced"] else None}

    def _proposal(self, body: Mapping[str, Any], seq: int) -> None:
        opens = [f"{each['model']} to {each['profile']}" for each in body.get("opens", ())]
        what = [f"proposed: {body['action']} {body['subject']}", *(f"which opens {each}" for each in opens)]
        self.steps.append(
            {
                "seq": seq,
                "at": body["at"],
                "revision": None,
                "who": body["by"],
                "action": "propose",
                "what": what,
                "note": body.get("note"),
                "from": None,
                "models": [],
                "proposed_by": None,
                "proposal": body["id"],
                "due": None,
                "late_seconds": None,
                "set_by": None,
                "receipt": None,
                "became": None,
            }
        )

    def _reach(self, body: Mapping[str, Any], _: int) -> None:
        directives = self.as_of.get(body["revision"], self.directives)  # it may be told after later revisions
        self.reach.append({**body, "directives": directives, "written": self.written})

    def _effects(self, body: Mapping[str, Any], _: int) -> None:
        self.effects.update(body["restrictions"])

    def _export(self, body: Mapping[str, Any], seq: int) -> None:
        self.copies.append({"seq": seq, "at": body["at"], "by": body["by"]})


def facts_of(entries: Sequence[Mapping[str, Any]], names: Mapping[str, str], view: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says. ``entries``: those about the order, in order; ``names``: callers by pseudonym."""
    story = _Story(view["order"])
    for entry in entries:
        story.read(entry)
    return {
        **view,
        "entered": story.entered,
        "periods": story.periods,
        "answers": _answers(story),
        "steps": sorted(story.steps, key=lambda step: (step["at"], step["seq"])),
        "access": _access(story, names),
        "affected": _affected(story),
        "earlier_copies": story.copies[:-1],
        "limits": list(LIMITS),
    }


def later(at: str, milliseconds: float) -> str:
    """A time so many milliseconds later."""
    return (datetime.fromisoformat(at) + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds")


def _note_in(changes: Mapping[str, Any]) -> str | None:
    """The note of something that was written with one, where it was written."""
    sides = [each for path, each in changes.items() if path.startswith(("holds/", "directives/"))]
    notes = [((each.get("before") or {}).get("note"), (each.get("after") or {}).get("note")) for each in sides]
    return next((new for old, new in notes if new and new != old), None)


# ------------------------------------------------------------------------------------------------ in short


def _answers(story: _Story) -> dict[str, Any]:
    """What is asked first: when it was in force, proven how, the last byte and the first refusal."""
    begun = {period["progress"]: period for period in reversed(story.periods)}
    step = story.by_revision.get(begun["in_force"]["revision"]) if "in_force" in begun else None
    receipt = step and step["receipt"]
    hit = list(story.effects.values())
    return {
        "received": story.entered and story.entered.get("received"),
        "due": step and step["due"],
        "after_due_ms": None if step is None else _between(step["due"], step["at"]),
        "in_force": step and step["at"],
        "proven": receipt and receipt["proven_at"],
        "elapsed_ms": receipt and receipt["elapsed_ms"],
        "basis": receipt and receipt["basis"],
        "replicas": receipt and [receipt["replicas"]["expected"], receipt["replicas"]["live"]],
        "streams_cut": receipt and receipt["streams_cut"],
        "last_byte_no_later_than": receipt and receipt["proven_at"],
        "last_cut": _stamp(max((each["last_cut"] for each in hit if each["last_cut"]), default=None)),
        "first_refusal": _stamp(min((each["first_refused"] for each in hit if each["first_refused"]), default=None)),
        "partly_lifted": begun["partly_lifted"]["from"] if "partly_lifted" in begun else None,
        "lifted": begun["lifted"]["from"] if "lifted" in begun else None,
    }


def _between(first: str | None, second: str) -> float | None:
    """Milliseconds from one time to another."""
    if first is None:
        return None
    return round((datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds() * 1000, 1)


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _affected(story: _Story) -> list[dict[str, Any]]:
    """By organisation: how many callers a restriction refused or cut, and how often."""
    return [
        {"restriction": restriction, "org": org, **numbers}
        for restriction, effect in sorted(story.effects.items())
        for org, numbers in effect["by_org"].items()
    ]


# ------------------------------------------------------------------------------------------------ who could


def _access(story: _Story, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """For each model: from when to when who could use it, why, and who decided that."""
    found: dict[str, list[dict[str, Any]]] = {}
    for reach in sorted(story.reach, key=lambda each: each["revision"]):
        for model in reach["models"]:
            periods = found.setdefault(model["model"], [])
            told = _period(story, reach, model, names)
            if periods and _same(periods[-1], told):
                continue
            if periods:
                periods[-1]["until"] = told["from"]
            periods.append(told)
    return [{"model": model, "periods": periods} for model, periods in sorted(found.items())]


_WHEN = ("from", "until", "revision", "decided_by", "proposed_by", "set_by")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in one if name not in _WHEN)


def _period(
    story: _Story, reach: Mapping[str, Any], model: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    step = story.by_revision.get(reach["revision"])
    return {
        "from": reach["committed"],
        "until": None,
        "revision": reach["revision"],
        "decided_by": step and step["who"],
        "proposed_by": step and step["proposed_by"],
        "set_by": step and step["set_by"],
        "rule": _rule(model, reach["directives"]),
        "everybody": model["hold"] is None and not model["directives"],
        "nobody": not model["permitted"]["total"] and not model.get("permitted_profiles", 1),
        "profiles": model["examples"],
        "more_profiles": max(0, (model.get("permitted_profiles") or 0) - len(model["examples"])),
        "permitted": model["permitted"],
        "denied": model["denied"],
        "callers": [
            {
                "name": names.get(who["caller"], f"caller {who['caller']}"),
                "why": [_why(story, reach, each) for each in who["because"]] or ["nothing restricts the model"],
            }
            for who in model["who"]
        ],
    }


def _rule(model: Mapping[str, Any], directives: Mapping[str, Any]) -> list[str]:
    """What stands between people and a model."""
    held = [] if model["hold"] is None else [f"hold {model['hold']}: offline for everybody"]
    known = [(name, directives.get(name)) for name in model["directives"]]
    return held + [f"{name} {about(said)}" if said else f"directive {name}, of another matter" for name, said in known]


def _why(story: _Story, reach: Mapping[str, Any], because: Mapping[str, Any]) -> str:
    """The clause that lets somebody through, and who decided it."""
    name = because["directive"]
    said = reach["directives"].get(name)
    if said is None:
        return f"the directive {name}, of another matter, lets them through"
    if because["by"] == "who":
        return f"{name} is about whoever is {condition(said['who'])}, which they are not"
    exempt = said["except"][because["number"]]
    step = story.by_revision.get(reach["written"].get((name, repr(exempt)), -1))
    by = "" if step is None else f"; decided by {_hands(step)} in revision {step['revision']}, {moment(step['at'])}"
    return f"exempt from {name}: whoever is {condition(exempt)}{by}"


def _hands(step: Mapping[str, Any]) -> str:
    if step["proposed_by"] is None:
        return str(step["who"])
    return f"{step['proposed_by']} (who proposed it) and {step['who']} (who approved it)"
