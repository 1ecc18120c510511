"""Load captioned images by name: generated scenes, or Flickr8k."""

import random
from collections.abc import Sequence
from typing import Literal

import torch

from common.data.captions.captioned import CaptionedImages, CaptionSet
from common.data.captions.flickr8k import load_flickr8k
from common.data.captions.grammar import captions_of
from common.data.captions.scenes import SIZE, Combination, draw_scene, render, split_combinations
from common.data.source import DataCard, data_dir, sha256_of, sha256_of_lines

CaptionSetName = Literal["scenes", "flickr8k"]

SEED = 20_261_201
TRAIN, VALID, TEST, HELD_OUT = 20_000, 500, 1_000, 1_000
PER_IMAGE = 5
"""Number of captions of a training scene, as in Flickr8k; scenes of the other splits have all of theirs."""


def load_captions(name: CaptionSetName, *, size: int = SIZE, limit: int | None = None) -> CaptionSet:
    """Load a data set by name, with images of size × size pixels.

    Raises DataUnavailable if Flickr8k is not in DATA_DIR, ValueError, naming file and line, if a file is broken.
    """
    if name == "flickr8k":
        return load_flickr8k(data_dir() / "flickr8k", size, limit=limit)
    return load_scenes(size=size, limit=limit)


def load_scenes(*, size: int = SIZE, limit: int | None = None) -> CaptionSet:
    """Draw the scenes of all splits, the same on every machine, at most `limit` for each split."""
    train, valid, held_out = split_combinations()
    counts = [count if limit is None else min(count, limit) for count in (TRAIN, VALID, TEST, HELD_OUT)]
    splits = [
        draw_split(combinations, count, SEED + number, captions=PER_IMAGE if number == 0 else None, size=size)
        for number, (combinations, count) in enumerate(zip((train, valid, train, held_out), counts, strict=True))
    ]
    lines = (caption for split in splits for captions in split.captions for caption in captions)
    sha256 = sha256_of_lines([*lines, sha256_of(*(split.pixels for split in splits))])
    shown = ", ".join(
        f"{len(split):,} {name}" for name, split in zip(("train", "valid", "test", "held out"), splits, strict=True)
    )
    return CaptionSet(DataCard("scenes", True, sha256, f"{shown}, embedded, drawn here"), *splits)


def draw_split(
    combinations: Sequence[Combination], count: int, seed: int, *, captions: int | None = None, size: int = SIZE
) -> CaptionedImages:
    """Draw scenes with these combinations of colour and shape, each with that many of its captions, or with all."""
    rng = random.Random(seed)
    scenes = [draw_scene(combinations, rng) for _ in range(count)]
    every = [captions_of(scene) for scene in scenes]
    chosen = every if captions is None else [rng.sample(its, captions) for its in every]
    return CaptionedImages(render(scenes, torch.Generator().manual_seed(seed), size), chosen, scenes)
