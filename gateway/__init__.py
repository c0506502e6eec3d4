"""Portcullis: a gate in front of model APIs.

Every request passes it, nobody notices it, and the moment an operator drops it nothing gets through.
Read ``proxy/exchange.py`` first: the way of one request, as named steps. Then ``policy/snapshot.py``: the
decision. Then ``enforcement/replica.py``: why a receipt may say *enforced*.

The words, used with these meanings everywhere:

========================  =====================================================================================
dialect                   how an API looks: operations, credentials, error shapes
provider                  a configured upstream speaking a dialect
operation                 one method + path of a dialect, as data; its *selectors* say where model names are
model                     an entry of the *catalog*: id, routes (provider + names there), aliases, family, tags
hold                      an unconditional *offline*; a model is offline while any hold on it stands
directive                 a conditional restriction (who, except, window)
order                     the legal or internal act behind holds and directives
restriction               a hold or a directive
caller                    the person or service that asks; *on behalf of*: the end user a service asks for
policy                    catalog, holds, directives, orders, terms, groups, orgs
change, revision          a set of edits, committed as one numbered revision
snapshot                  a compiled, immutable policy
decision                  ``Permit`` or ``Deny``, frozen, with reason, restriction, revision
refusal                   the HTTP form of a ``Deny``
replica                   one data-plane process; its *lease* is its right to serve
receipt                   the proof that a revision is enforced on every replica
note                      the operator's words; they never leave the gateway
public message            what the refused may read
========================  =====================================================================================

The map; imports point inwards (``tests/test_architecture.py`` enforces it)::

    proxy/          the data plane                dialects/       what providers' APIs look like, as data
    policy/         the decision, pure            identity/       from a credential to a caller
    enforcement/    Redis, leases, receipts       control/        admin API
    observability/  metrics, logs                 console/        what operators see and use in a browser
    doctor/         what could go wrong, looked for
    cli/            the command line              simulator/      a fake provider that speaks every dialect
    reference       pages of docs/ from tables    settings, tls, serve, supervisor, embedded, tasks, channel, errors
"""

__version__ = "0.1.0"
