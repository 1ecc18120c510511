"""Recommend films with chapter 3's recommender, given films that a user likes and dislikes, and name reasons.

Dimensions: R films rated by the user, F films.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ch10_deploy.inference.models import Model
from ch10_deploy.server.refusal import Refusal
from common.data.ratings.titles import Titles

GOOD, BAD = 5.0, 1.0
"""Stars that represent a like and a dislike."""

REASONS = 2
"""Maximum number of the user's films named as reasons for a recommendation."""


class FilmRecommender:
    """Search titles and recommend films."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.titles = Titles(model.serving.titles, model.serving.counts)
        self.data: str = model.card.data.name
        self.most_rated: int = model.serving.most_rated

    def films(self, query: str, limit: int) -> list[str]:
        """List titles similar to the query; for an empty query, those with the most ratings."""
        if query.strip():
            return self.titles.near(query, limit=limit)
        known = np.argsort(-np.array(self.titles.counts), kind="stable")[:limit]
        return [self.titles.titles[film] for film in known]

    def recommend(self, likes: Sequence[str], dislikes: Sequence[str], top: int) -> dict[str, Any]:
        """Recommend films; raises Refusal for unknown or contradictory titles, too many titles, or none."""
        named = len(likes) + len(dislikes)
        if named > self.most_rated:  # the export was verified with at most this number
            side = "likes" if len(likes) > self.most_rated else "dislikes"
            raise Refusal(f"name at most {self.most_rated} films, liked or disliked, got {named}", field=side)
        person: dict[int, float] = {}
        matched = []
        for field, asked, stars in (("likes", likes, GOOD), ("dislikes", dislikes, BAD)):
            for number, title in enumerate(asked):
                film = self._film(title, f"{field}[{number}]")
                if person.get(film, stars) != stars:
                    raise Refusal(
                        f"{self.titles.titles[film]!r} is both liked and disliked", field=f"{field}[{number}]"
                    )
                person[film] = stars
                matched.append({"asked": title, "title": self.titles.titles[film]})
        if not person:
            raise Refusal("name at least one film", field="likes")
        return {"matched": matched, "films": self.suggest(person, top)}

    def _film(self, title: str, field: str) -> int:
        try:
            return self.titles.find(title, self.data)
        except ValueError as error:
            raise Refusal(str(error), field=field) from error

    def suggest(self, person: dict[int, float], top: int) -> list[dict[str, Any]]:
        """Rank the other films; the reasons are the user's films without which the expected stars drop most."""
        films = np.array([*person])
        answer = self.model(films=films, stars=np.array([*person.values()], np.float32))
        stars, scores = answer["expected"], answer["scores"]  # (R + 1, F) given all R and all but one; (F,)
        scores[films] = -np.inf
        best = np.argsort(-scores, kind="stable")[: min(top, len(scores) - len(films))]
        loss = stars[0, best] - stars[1:][:, best]  # (R, top)
        suggestions = []
        for place, film in enumerate(best.tolist()):
            order = np.argsort(-loss[:, place], kind="stable")[:REASONS]
            reasons = [self.titles.titles[int(films[r])] for r in order if loss[r, place] > 0]
            rating = float(np.clip(stars[0, film], 0.5, 5.0))
            suggestions.append({"title": self.titles.titles[film], "rating": rating, "because": reasons})
        return suggestions
