"""Find a film title regardless of case, with or without its year, and as `The X` for `X, The`."""

import re
from collections.abc import Sequence

YEAR = re.compile(r" \(\d{4}\)$")
"""Year at the end of a title, which a query may omit."""


class Titles:
    """Titles with a count each; of several with the same name, `find` returns the one with the largest count."""

    def __init__(self, titles: Sequence[str], counts: Sequence[float]) -> None:
        self.titles, self.counts = list(titles), counts
        self.known = [title.casefold() for title in titles]
        self.bare = [YEAR.sub("", name) for name in self.known]

    def find(self, title: str, where: str) -> int:
        """Return the index of a title.

        Raises ValueError, with the most similar titles, if it is unknown; `where` names the collection.
        """
        wanted = title.strip().casefold()
        turned = re.sub(r"^(the|an?) (.+?)( \(\d{4}\))?$", r"\2, \1\3", wanted)
        same = [number for number, name in enumerate(self.known) if name in (wanted, turned)]
        same = same or [number for number, name in enumerate(self.bare) if name in (wanted, turned)]
        if same:
            return max(same, key=lambda number: self.counts[number])
        near = self.near(title, limit=3)
        if not near:
            raise ValueError(f"no film {title!r} in {where}, and no similar title")
        raise ValueError(f"no film {title!r}; did you mean {' or '.join(map(repr, near))}?")

    def near(self, title: str, *, limit: int) -> list[str]:
        """List titles that are similar to a title, the most similar first."""
        from rapidfuzz import fuzz, process, utils

        asked = YEAR.sub("", title.strip().casefold())
        long_enough = {number: name for number, name in enumerate(self.bare) if len(name) > len(asked) / 2}
        found = process.extract(
            asked,
            long_enough,
            scorer=fuzz.WRatio,
            processor=utils.default_process,
            limit=max(30, limit),
            score_cutoff=60,
        )
        best = sorted(found, key=lambda each: (-each[1], -self.counts[each[2]]))[:limit]
        return [self.titles[number] for _, _, number in best]
