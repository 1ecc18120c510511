"""What is wrong with a request, in words for the one who sent it."""

MOST_FIELD = 200
"""Characters of a field's name that are repeated: it may be the sender's own."""


def plain(text: str) -> str:
    """Replace what UTF-8 cannot hold: JSON may name half of a surrogate pair."""
    return text.encode(errors="replace").decode()


class Refusal(Exception):  # noqa: N818  # it is an answer, not an error of the server
    """A request that is not carried out: the reason, the field that it is about, and the HTTP status that says so."""

    def __init__(self, reason: str, *, field: str | None = None, status: int = 422) -> None:
        super().__init__(reason)
        self.reason, self.field, self.status = reason, field, status

    def answer(self) -> dict[str, str | None]:
        """Give what the sender gets to read."""
        field, reason = self.field and plain(self.field[:MOST_FIELD]), plain(self.reason)
        return {"detail": f"{field}: {reason}" if field else reason, "field": field}

    def headers(self) -> dict[str, str]:
        """Say when to come again, and whether the connection ends: there may be more of a request that is too large."""
        return ({"retry-after": "1"} if self.status == 503 else {}) | (
            {"connection": "close"} if self.status in (408, 413) else {}
        )
