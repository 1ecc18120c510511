# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Object detection: boxes, suppression and average precision
#
# A detector returns boxes with a class and a score. Two boxes $a$ and $b$ are compared by their intersection over
# union,
#
# $$\mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|} .$$
#
# A detection is right if its IoU with a true box of its class is at least 0.5 and the box has not been found already.
# Sorted by score, the first $n$ detections have a precision (share of right ones) and a recall (share of the true boxes
# that are found). The average precision (AP) is the area under the curve of precision over recall.
#
# This notebook makes detections by disturbing true boxes, so that every error is known. The questions: how strict is an
# IoU of 0.5, which errors does AP punish, what does the threshold of non-maximum suppression do, and which objects do
# anchors miss?

# %%
# %matplotlib inline
import torch

from ch06_cnn.detection.anchors import make_anchors
from ch06_cnn.detection.average_precision import Detections, average_precision, curves
from ch06_cnn.detection.boxes import centre_form, iou
from ch06_cnn.detection.suppression import nms
from ch06_cnn.detection.visualise import draw_boxes, found_boxes
from common.data.boxes.boxed import NO_BOX, BoxedImages
from common.data.scenes.drawing import draw_scenes
from common.drawing import plots

CLASS_NAMES = tuple(str(number) for number in range(20))
scenes = draw_scenes(60, torch.Generator().manual_seed(0))
truth = BoxedImages(scenes.pixels, scenes.boxes, scenes.labels, torch.zeros_like(scenes.labels, dtype=torch.bool))
present = truth.labels != NO_BOX
size = tuple(scenes.pixels.shape[-2:])
print(f"{len(scenes.pixels)} scenes of {size[0]} × {size[1]} pixels with {int(present.sum())} objects")

# %% [markdown]
# ## How strict is an IoU of 0.5?
#
# A square of 20 pixels is shifted to the right, or enlarged around its centre.
#
# **Before you run the cell:** by how many pixels may it be shifted until the IoU falls below 0.5? Which enlargement of
# the side gives 0.5?

# %%
square = torch.tensor([[0.0, 0, 20, 20]])
shifts = torch.linspace(0, 20, 81)
moved = square + torch.stack([shifts, 0 * shifts, shifts, 0 * shifts], 1)
diagonal = square + shifts[:, None]
growth = torch.linspace(1, 2, 81)
enlarged = torch.stack([10 - 10 * growth, 10 - 10 * growth, 10 + 10 * growth, 10 + 10 * growth], 1)
half = {
    "shift": float(shifts[(iou(square, moved)[0] >= 0.5).sum() - 1]),
    "diagonal shift": float(shifts[(iou(square, diagonal)[0] >= 0.5).sum() - 1]),
    "enlargement": float(growth[(iou(square, enlarged)[0] >= 0.5).sum() - 1]),
}
print(half)
plots.line_panels(
    {
        "shift in pixels, side 20": {
            "to the right": (shifts, iou(square, moved)[0]),
            "diagonally": (shifts, iou(square, diagonal)[0]),
        },
        "factor of the side": {"enlarged": (growth, iou(square, enlarged)[0])},
    },
    columns=2,
    ylabel="IoU",
    share_y=False,
    size=1.2,
)

# %% [markdown]
# A shift by a third of the side gives an IoU of 0.5: $(20 - d) / (20 + d) = 1/2$ for $d = 20/3$. A diagonal shift of
# 3.7 pixels is enough. A box that is $\sqrt 2$ times as wide and high still has 0.5. For small objects, a few pixels
# decide.
#
# ## Which errors does AP punish?
#
# The cell starts from the true boxes with random scores and makes one kind of error at a time.
#
# **Before you run the cell:** order the errors by AP: a tenth of the boxes missing; every box detected twice (the
# second one with a lower or a higher score than all others); one false box per true one with low scores, or with random
# scores.

# %%
generator = torch.Generator().manual_seed(1)


def detections_of(*parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> Detections:
    """Join (boxes, scores, labels) of each image and sort them by score."""
    boxes, scores, labels = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
    order = scores.argsort(1, descending=True)
    return Detections(
        boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4)), scores.gather(1, order), labels.gather(1, order)
    )


def mean_ap(detections: Detections) -> float:
    """Return the AP of all objects together at an IoU of 0.5: the classes are ignored."""
    one = Detections(detections.boxes, detections.scores, detections.labels.clamp(max=0))
    single = BoxedImages(truth.pixels, truth.boxes, truth.labels.clamp(max=0), truth.difficult)
    return average_precision(*curves(one, single, 1)[0])


scores = torch.where(present, 0.4 + 0.2 * torch.rand(present.shape, generator=generator), 0.0)
labels = torch.where(present, 0, NO_BOX)
right = truth.boxes, scores, labels
missing = present & (torch.rand(present.shape, generator=generator) < 0.1)
elsewhere = truth.boxes.flip(0)  # boxes of other images
cases = {
    "no error": (right,),
    "a tenth missing": ((truth.boxes, scores, labels.masked_fill(missing, NO_BOX)),),
    "twice, lower scores": (right, (truth.boxes, scores - 0.3, labels)),
    "twice, similar scores": (right, (truth.boxes, scores - 0.01, labels)),
    "false boxes, low scores": (right, (elsewhere, scores - 0.3, labels)),
    "false boxes, random scores": (right, (elsewhere, scores.flip(1), labels)),
    "false boxes, high scores": (right, (elsewhere, scores + 0.3, labels)),
}
ap = {name: mean_ap(detections_of(*parts)) for name, parts in cases.items()}
plots.bars(list(ap), list(ap.values()), title="average precision of true boxes with errors", label="AP")

# %% [markdown]
# Missing boxes cost their share. False or doubled boxes cost nothing if their scores are below those of all right ones,
# because precision is measured at each level of recall. The same boxes with high scores cost half of the AP. AP
# measures the *order* of the scores; it does not say which threshold to use.
#
# ## What does the threshold of suppression do?
#
# Detectors return several boxes per object. Non-maximum suppression (NMS) keeps the box with the highest score and
# removes those whose IoU with it is above a threshold.
#
# **Before you run the cell:** each true box gets four disturbed copies. What happens to the AP for a threshold near 0,
# and near 1?

# %%
thresholds = [0.02, 0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 0.99]
spread = 0.12 * (truth.boxes[..., 2:] - truth.boxes[..., :2]).repeat(1, 1, 2)
copies = []
for _ in range(4):
    noise = torch.randn(truth.boxes.shape, generator=generator)
    boxes = truth.boxes + spread * noise
    quality = 0.5 - 0.1 * noise.abs().mean(2) + 0.05 * torch.rand(present.shape, generator=generator)
    copies.append((boxes, torch.where(present, quality, 0.0), labels))
crowded = detections_of(*copies)
by_threshold, kept = [], []
for threshold in thresholds:
    suppressed = crowded.labels.clone()
    for image in range(len(suppressed)):
        real = (crowded.labels[image] != NO_BOX).nonzero()[:, 0]
        chosen = real[nms(crowded.boxes[image, real], crowded.scores[image, real], threshold)]
        suppressed[image] = NO_BOX
        suppressed[image, chosen] = crowded.labels[image, chosen]
    kept.append(int((suppressed != NO_BOX).sum()) / int(present.sum()))
    by_threshold.append(mean_ap(Detections(crowded.boxes, crowded.scores, suppressed)))
plots.line_panels(
    {
        "average precision": {"AP": (thresholds, by_threshold)},
        "boxes per object": {"boxes": (thresholds, kept)},
    },
    columns=2,
    xlabel="threshold",
    marked=("AP", "boxes"),
    size=1.2,
)

# %% [markdown]
# A threshold near 1 keeps all copies, which count as false boxes. A threshold near 0 also removes boxes of *other*
# objects that overlap or touch. The best value depends on how much the objects overlap; 0.45 is usual.
#
# ## Which objects do anchors miss?
#
# SSD matches each true box with anchors whose IoU with it is at least 0.5.
#
# **Before you run the cell:** with anchors of the sides 8 and 12 pixels on a map of stride 4 only, which objects have
# no such anchor?

# %%
boxes = truth.boxes[present]
sides = centre_form(boxes)[:, 2:].prod(1).sqrt()
best = {
    "sides 8, 12": iou(boxes, make_anchors(size, (4,), ((8.0, 12.0),))).amax(1),
    "sides 8, 12, 17, 24": iou(boxes, make_anchors(size, (4, 8), ((8.0, 12.0), (17.0, 24.0)))).amax(1),
}
matched = {name: float((values >= 0.5).float().mean()) for name, values in best.items()}
print("share of objects with an anchor of IoU 0.5:", {name: round(value, 2) for name, value in matched.items()})
order = sides.argsort()
plots.line_panels(
    {
        "IoU with the best anchor": {
            name: (sides[order].unfold(0, 15, 1).mean(1), values[order].unfold(0, 15, 1).mean(1))
            for name, values in best.items()
        }
    },
    columns=1,
    xlabel="side of the object in pixels",
    ylabel="IoU, mean of 15 objects",
    size=1.5,
)

# %% [markdown]
# Small anchors fit small objects only. A second, coarser map with larger anchors covers the others. SSD also gives
# every true box its best anchor, so that no object is without a target.

# %%
perfect = detections_of((truth.boxes, torch.where(present, 0.9, 0.0), torch.where(present, truth.labels, NO_BOX)))
draw_boxes(list(truth.pixels[:4]), [found_boxes(perfect, image, CLASS_NAMES) for image in range(4)], columns=4)

# %% [markdown]
# ## Continue
#
# - Change the factor 0.12 of `spread` to 0.3: which threshold is best then?
# - The page on [detection](../../ch06_cnn/DETECTION.md) trains SSD and a detector in the style of YOLO on these scenes;
#   exercises 3 and 4 (`python -m ch06_cnn.exercises 3`) ask for IoU and NMS.
