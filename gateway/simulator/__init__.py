"""A fake provider that speaks the OpenAI, Anthropic, Gemini and Bedrock dialects over HTTP, for the demo and for tests.

The official SDKs read its objects and streams as the real thing. What it says is a function of the request,
so that an answer that came through a proxy can be compared byte for byte with one that did not. How it behaves
(pace, silence, errors, cuts) is told by `X-Sim-…` request headers; what it saw is recorded and served under
`/_sim/`.

Words
    behaviour   how one answer is given: number of deltas, pace, forced status, cut (`behaviour.py`)
    call        one parsed request, as a dialect's operation receives it (`dialect.py`)
    reply       what an operation returns: `Plain` bytes or a `Stream` of events; pure, no I/O
    delta       one event that carries a piece of the answer; the unit of X-Sim-Events, -Truncate and -Stall
    emission    one write of response body bytes: when, and the stream offset after it
    exchange    the record of one request and of what was sent in answer (`record.py`)
    journal     the bounded ring of exchanges, and the counters

Map
    app.py          the story of a request; `build_app(config)`
    openai/         the OpenAI dialect           anthropic/   the Anthropic dialect
    gemini/         the Gemini dialect           bedrock/     the Bedrock dialect
    content.py      deterministic words          tools.py     deterministic tool arguments
    emit.py         replies → the wire           inspector.py the `/_sim/` endpoints
    record.py       exchanges, journal, counters
    server.py       `Simulator`, a listening app __main__.py  `python -m gateway.simulator`
"""

from gateway.simulator.app import build_app
from gateway.simulator.behaviour import DEMO_PACE, Behaviour
from gateway.simulator.config import SimulatorConfig
from gateway.simulator.record import Ended, Exchange, Journal
from gateway.simulator.server import Simulator

__all__ = [
    "DEMO_PACE",
    "Behaviour",
    "Ended",
    "Exchange",
    "Journal",
    "Simulator",
    "SimulatorConfig",
    "build_app",
]
