"""The exception for a refused request, with a message for the client."""

MAX_FIELD = 200
"""Maximum number of characters of a field's name in a message; the client may have chosen the name."""


class Refusal(Exception):  # noqa: N818  # a response, not an error of the server
    """Refuse a request with a reason, the field concerned and an HTTP status."""

    def __init__(self, reason: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(reason)
        self.reason, self.field, self.status = reason, field, status

    def answer(self) -> dict[str, str | None]:
        """Return the body of the response."""
        field = self.field and self.field[:MAX_FIELD]
        return {"detail": f"{field}: {self.reason}" if field else self.reason, "field": field}

    def headers(self) -> dict[str, str]:
        """Return Retry-After for 503, and Connection: close if the rest of the request was not read."""
        return ({"retry-after": "1"} if self.status == 503 else {}) | (
            {"connection": "close"} if self.status in (408, 413) else {}
        )
