"""Solution: count the bytes while they arrive.

The header saves reading, but it is only a claim: what arrived decides. After 413 the rest is not read, so a client
cannot fill the memory. The server of this chapter also limits the time in which a body must arrive.
"""

from collections.abc import Iterator


def status_of_body(pieces: Iterator[bytes], length: int | None, limit: int) -> int:
    """Pieces of the body as they arrive, Content-Length, limit in bytes -> status"""
    if length is not None and length > limit:
        return 413
    received = 0
    for piece in pieces:
        received += len(piece)
        if received > limit:
            return 413
    return 400 if length is not None and received != length else 200
