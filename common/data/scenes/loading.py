"""Splits of generated scenes, the same on every machine."""

import torch

from common.data.scenes.drawing import draw_scenes
from common.data.scenes.painting import SHAPE_NAMES
from common.data.scenes.scene_set import SceneSet
from common.data.source import DataCard, sha256_of

SEED = 20_261_130
TRAIN, VALID, TEST = 4_000, 500, 1_000


def load_scene_set(*, limit: int | None = None) -> SceneSet:
    """Draw the scenes of all splits, at most `limit` for each."""
    counts = [count if limit is None else min(count, limit) for count in (TRAIN, VALID, TEST)]
    train, valid, test = (
        draw_scenes(count, torch.Generator().manual_seed(SEED + number)) for number, count in enumerate(counts)
    )
    parts = (train, valid, test)
    sha256 = sha256_of(*(t for its in parts for t in (its.pixels, its.boxes, its.labels, its.instance_masks)))
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    card = DataCard("scenes", True, sha256, f"{sizes}, embedded, drawn here")
    return SceneSet(card, SHAPE_NAMES, train, valid, test)
