"""Find the bug: the size limit of a request body (15 minutes)

A server reads the body of a request in pieces. `length` is the Content-Length header, or None: a client may omit it,
and it may be wrong. The status of the response is

    413    if the body has more than `limit` bytes. The server stops reading as soon as this is certain: before the
           first piece if the header says so, otherwise after the piece that exceeds the limit;
    400    if there is a header, and the body has another length;
    200    otherwise.

The function below reads any amount of memory full if the client omits the header. The messages of the check give the
sizes of the pieces instead of their bytes.

Check: python -m ch10_deploy.exercises 5
"""

from collections.abc import Iterator


def status_of_body(pieces: Iterator[bytes], length: int | None, limit: int) -> int:
    """Pieces of the body as they arrive, Content-Length, limit in bytes -> status"""
    # Find the bug, then delete this comment.
    if length is not None and length > limit:
        return 413
    body = b"".join(pieces)
    return 400 if length is not None and len(body) != length else 200
