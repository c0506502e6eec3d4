"""The data plane: asyncio protocols on httptools and uvloop, one event loop a worker.

``exchange`` is the story of one request. ``connection`` is a client's TCP connection, ``upstream`` a provider's;
``head`` judges a request's head; ``gate`` is what all exchanges of a worker share; ``worker`` is the process.
"""
