"""The control side: the admin API, in an aiohttp application.

``routes`` is the one table of what can be called; ``app`` serves it and ``openapi`` describes it. A module per noun
holds its handlers. ``changes`` is the one way to a new revision: compose, check, commit, prove, answer. ``problems``
has one error type per cause, ``middleware`` the one place that turns them into responses.
"""
