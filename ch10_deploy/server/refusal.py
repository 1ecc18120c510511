"""What is wrong with a request, in words for the one who sent it."""

MOST_FIELD = 200
"""Characters of a field's name that are repeated: it may be the sender's own."""


class Refusal(Exception):  # noqa: N818  # it is an answer, not an error of the server
    """A request that is not carried out: the reason, the field that it is about, and the HTTP status that says so."""

    def __init__(self, reason: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(reason)
        self.reason, self.field, self.status = reason, field, status

    def answer(self) -> dict[str, str | None]:
        """Give what the sender gets to read."""
        field = self.field and self.field[:MOST_FIELD]
        return {"detail": f"{field}: {self.reason}" if field else self.reason, "field": field}

    def headers(self) -> dict[str, str]:
        """Say when to come again, and whether the connection ends: there may be more of a request that is too large."""
        return ({"retry-after": "1"} if self.status == 503 else {}) | (
            {"connection": "close"} if self.status in (408, 413) else {}
        )
