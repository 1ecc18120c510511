"""A grammar of captions for scenes: all captions of a scene, and a parser that decides whether a caption is true.

    caption  = object ["is"] relation object       a small red disc is left of a large blue square
             | object "with" object place          a large blue square with a small red disc on its left
    object   = "a" size colour shape
    relation = ["to the"] "left of" | ["to the"] "right of" | "above" | "over" | "below" | "under"
    place    = "on its left" | "on its right" | "above it" | "below it"

A caption states that one object is on a side of another. It is true if the scene has both objects and the centres are
in this order, however small the distance. The captions of a scene only mention an axis along which the centres are at
least CLEAR pixels apart.
"""

import re
from typing import NamedTuple

from common.data.captions.scenes import CLEAR, COLOURS, RADII, SHAPE_NAMES, Scene, SceneObject

RELATIONS = {
    "left of": "left",
    "to the left of": "left",
    "right of": "right",
    "to the right of": "right",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
"""Words of a relation, and the side that they mean."""
PLACES = {"on its left": "left", "on its right": "right", "above it": "above", "below it": "below"}
"""Words of a place, and the side that they mean."""

OBJECT = rf"a ({'|'.join(RADII)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPE_NAMES)})"
RELATION = re.compile(rf"{OBJECT} (?:is )?({'|'.join(RELATIONS)}) {OBJECT}")
PLACE = re.compile(rf"{OBJECT} with {OBJECT} ({'|'.join(PLACES)})")


class Kind(NamedTuple):
    """Description of an object in a caption."""

    size: str
    colour: str
    shape: str

    @classmethod
    def of(cls, each: SceneObject) -> "Kind":
        """Describe an object."""
        return cls(each.size, each.colour, each.shape)

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


class Claim(NamedTuple):
    """Meaning of a caption: the scene has both objects, and the first is on this side of the second."""

    first: Kind
    side: str
    second: Kind


def parse(caption: str) -> Claim | None:
    """Return the meaning of a caption; None if it does not follow the grammar."""
    if match := RELATION.fullmatch(caption):
        words = match.groups()
        return Claim(Kind(*words[:3]), RELATIONS[words[3]], Kind(*words[4:]))
    if match := PLACE.fullmatch(caption):
        words = match.groups()
        return Claim(Kind(*words[3:6]), PLACES[words[6]], Kind(*words[:3]))
    return None


def is_true(caption: str, scene: Scene) -> bool:
    """Tell whether a caption follows the grammar and is true of a scene."""
    claim = parse(caption)
    return claim is not None and any(
        (Kind.of(first), Kind.of(second)) == (claim.first, claim.second) and claim.side in sides(first, second)
        for first, second in (scene, scene[::-1])
    )


def sides(first: SceneObject, second: SceneObject, distance: float = 0.0) -> list[str]:
    """List the sides of the second object on which the first is, by more than this distance along the axis."""
    ahead = {
        "left": second.x - first.x,
        "right": first.x - second.x,
        "above": second.y - first.y,
        "below": first.y - second.y,
    }
    return [side for side, pixels in ahead.items() if pixels > distance]


def captions_of(scene: Scene) -> list[str]:
    """List all captions of a scene: 10, or 20 if the centres are at least CLEAR pixels apart along both axes."""
    captions = []
    for first, second in (scene, scene[::-1]):
        one, other = Kind.of(first), Kind.of(second)
        for side in sides(first, second, CLEAR):
            relations = [words for words, meaning in RELATIONS.items() if meaning == side]
            captions += [f"{one} {verb}{relation} {other}" for verb in ("", "is ") for relation in relations]
            captions += [f"{other} with {one} {place}" for place, meaning in PLACES.items() if meaning == side]
    return captions
