"""Detection: boxes, anchors, suppression, losses, augmentation and average precision, against references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import ops

from ch06_cnn.detection import average_precision, ssd
from ch06_cnn.detection.anchors import UNMATCHED, make_anchors, match
from ch06_cnn.detection.augment import random_transform, transform_boxes, transform_images
from ch06_cnn.detection.average_precision import (
    IGNORED,
    RIGHT,
    WRONG,
    Detections,
    average_precisions,
    match_detections,
    precision_recall,
)
from ch06_cnn.detection.boxes import decode, encode, iou, paired_iou
from ch06_cnn.detection.evaluation import Errors, measure, select, worst_errors
from ch06_cnn.detection.ssd import SSD
from ch06_cnn.detection.suppression import nms, suppress
from ch06_cnn.detection.yolo import REFERENCE, YOLO
from common.data.boxes.boxed import NO_BOX, BoxedImages


def random_boxes(count, seed=0, size=64.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator, dtype=dtype) * size
    return torch.cat([corners.amin(1), corners.amax(1) + 0.5], dim=1)


def split_of(rows, size=64):
    """Build a split from lists of (label, box, difficult), one list per image."""
    most = max(map(len, rows))
    truth = torch.zeros(len(rows), most, 4)
    labels = torch.full((len(rows), most), NO_BOX)
    difficult = torch.zeros(len(rows), most, dtype=torch.bool)
    for image, its in enumerate(rows):
        for place, (label, box, hard) in enumerate(its):
            truth[image, place], labels[image, place], difficult[image, place] = torch.tensor(box), label, hard
    return BoxedImages(torch.zeros(len(rows), 3, size, size, dtype=torch.uint8), truth, labels, difficult)


def detections_of(rows):
    """Build detections from lists of (label, score, box), one list per image, by falling score."""
    most = max(map(len, rows))
    found = Detections(
        torch.zeros(len(rows), most, 4), torch.zeros(len(rows), most), torch.full((len(rows), most), NO_BOX)
    )
    for image, its in enumerate(rows):
        for place, (label, score, box) in enumerate(its):
            found.boxes[image, place] = torch.tensor(box)
            found.scores[image, place], found.labels[image, place] = score, label
    return found


# Boxes.


def test_iou_equals_torchvision():
    one, other = random_boxes(40), random_boxes(30, seed=1)
    torch.testing.assert_close(iou(one, other), ops.box_iou(one, other), rtol=1e-14, atol=0)
    torch.testing.assert_close(paired_iou(one[:30], other), ops.box_iou(one, other).diagonal(), rtol=1e-14, atol=0)
    batched = iou(torch.stack([one, one]), torch.stack([other, other.flip(0)]))
    torch.testing.assert_close(batched[1], iou(one, other).flip(1), rtol=0, atol=0)


def test_iou_by_hand():
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert iou(box, others).tolist() == [[pytest.approx(1 / 7), 0, 1, 0]]
    assert iou(others[3:], others[3:]).item() == 0, "two boxes without area"


def test_decode_inverts_encode():
    one, other = random_boxes(50), random_boxes(50, seed=1)
    torch.testing.assert_close(decode(encode(one, other), other), one, rtol=1e-12, atol=1e-12)


def test_offsets_by_hand():
    anchor, box = torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([5.0, 0.0, 25.0, 20.0])
    expected = [10 / 10 / 0.1, 0.0, math.log(2) / 0.2, 0.0]
    torch.testing.assert_close(encode(box, anchor), torch.tensor(expected))
    assert decode(torch.full((4,), 1e4), anchor).isfinite().all(), "a size that would overflow is limited"


# Anchors and matching.


def test_anchors_by_hand():
    made = make_anchors((8, 16), (4, 8), [(4.0, 8.0), (8.0, 18.0)])
    assert made.shape == (4 * (2 * 4 + 1 * 2), 4)
    assert made[0].tolist() == [0, 0, 4, 4]
    assert made[5].tolist() == [2, -2, 10, 6], "the large square of the second cell of the first row"
    assert made[4 * 4].tolist() == [0, 4, 4, 8], "the small square of the second row"
    assert made[32].tolist() == [0, 0, 8, 8], "the coarse map"
    wide, high = made[34, 2:] - made[34, :2], made[35, 2:] - made[35, :2]
    torch.testing.assert_close(wide, torch.tensor([12 * 2**0.5, 12 / 2**0.5]))
    torch.testing.assert_close(high, wide.flip(0))


def test_every_box_has_an_anchor_and_others_match_by_overlap():
    """Compared with a slow loop: first the pairs of largest IoU, then all anchors above the threshold."""
    made = make_anchors((64, 64), (8, 16), [(8.0, 16.0), (24.0, 40.0)])
    made += 0.1 * torch.rand(made.shape, generator=torch.Generator().manual_seed(0))  # no two pairs have the same IoU
    truth = torch.stack([random_boxes(6, seed=number, dtype=torch.float32) for number in range(4)])
    labels = torch.zeros(4, 6, dtype=torch.int64)
    labels[1, 3:] = NO_BOX
    labels[3] = NO_BOX
    matched = match(made, truth, labels)
    for image in range(4):
        real = int((labels[image] != NO_BOX).sum())
        overlap = ops.box_iou(made, truth[image, :real]).numpy()
        expected = np.full(len(made), UNMATCHED)
        if real:
            expected = np.where(overlap.max(1) >= 0.5, overlap.argmax(1), UNMATCHED)
        free, left = overlap.copy(), set(range(real))
        while left:
            anchor, box = np.unravel_index(free.argmax(), free.shape)
            expected[anchor] = box
            free[anchor], free[:, box] = -1, -1
            left.remove(int(box))
        assert matched[image].tolist() == expected.tolist()
        assert set(range(real)) <= set(matched[image].tolist())


def test_two_boxes_with_the_same_best_anchor_get_different_ones():
    made = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10]])
    truth = torch.tensor([[[0.0, 0, 10, 9], [0.0, 0, 10, 8]]])
    assert match(made, truth, torch.zeros(1, 2, dtype=torch.int64)).tolist() == [[0, 1]]


# Suppression.


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_suppression_equals_torchvision(seed, count, threshold):
    found = random_boxes(count, seed, size=20.0)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (count,), generator=generator)
    expected = ops.nms(found, scores, threshold)
    assert nms(found, scores, threshold).tolist() == expected.tolist()
    order = scores.argsort(descending=True)
    batch = found[order].expand(2, -1, -1)
    together = torch.stack([torch.zeros_like(labels), labels[order]])
    kept = suppress(batch, together, threshold)
    assert order[kept[0]].tolist() == expected.tolist()
    if count:
        by_class = ops.batched_nms(found, scores, labels, threshold)
        assert order[kept[1]].tolist() == by_class.tolist()


def test_a_chain_of_overlaps_keeps_every_other_box():
    """A suppresses B, which therefore cannot suppress C."""
    chain = torch.stack([torch.tensor([4.0 * n, 0.0, 4.0 * n + 10, 10.0]) for n in range(9)])
    kept = suppress(chain.unsqueeze(0), torch.zeros(1, 9, dtype=torch.int64), 0.3)
    assert kept[0].tolist() == [True, False] * 4 + [True]


# Losses.


def test_hard_negatives_are_the_three_with_the_largest_loss_per_positive():
    losses = torch.tensor([[0.1, 9.0, 0.5, 0.4, 0.3, 0.2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 1, 1, 1, 1, 1]])
    positive = torch.tensor(
        [[False, True, False, False, False, False], [True, True, True, True] + [False] * 2, [False] * 6]
    )
    expected = [[False, False, True, True, True, False], [False] * 4 + [True] * 2, [False] * 6]
    assert ssd.hard_negatives(losses, positive).tolist() == expected


def test_ssd_loss_by_hand():
    """One positive anchor, three of the other anchors as negatives."""
    head = SSD(8, 2, (16, 16), (8,), [(8.0, 8.0)]).double()
    truth, labels = torch.tensor([[[0.0, 0, 8, 9], [0.0, 0, 0, 0]]], dtype=torch.float64), torch.tensor([[1, NO_BOX]])
    matched = match(head.anchors, truth, labels)
    positives = (matched[0] == 0).nonzero().squeeze(1).tolist()
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, 16, 7, generator=generator, dtype=torch.float64)
    logs = outputs[0, :, :3].log_softmax(1)
    negative = sorted(-logs[n, 0].item() for n in range(16) if n not in positives)[::-1][: 3 * len(positives)]
    expected = sum(negative)
    for place in positives:
        expected -= logs[place, 2].item()
        difference = (outputs[0, place, 3:] - encode(truth[0, 0], head.anchors[place])).abs()
        expected += torch.where(difference < 1, difference**2 / 2, difference - 0.5).sum().item()
    assert head.loss(outputs, truth, labels).item() == pytest.approx(expected / len(positives), rel=1e-12)


def test_losses_without_any_box_are_finite():
    nothing = torch.zeros(2, 3, 4), torch.full((2, 3), NO_BOX)
    for head in (SSD(8, 2, (16, 16), (8,), [(8.0, 8.0)]), YOLO(8, 2, (16, 16), (8,))):
        outputs = head([torch.randn(2, 8, 2, 2)])
        loss = head.loss(outputs, *nothing)
        loss.backward()
        assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_yolo_assigns_the_cell_of_the_centre_in_the_map_of_the_size():
    head = YOLO(8, 2, (32, 32), (4, 8))
    truth = torch.tensor([[[8.0, 4, 20, 16], [0.0, 0, 24, 24], [9.0, 5, 19, 15], [0.0, 0, 0, 0]]])
    labels = torch.tensor([[0, 1, 1, NO_BOX]])
    assigned = head.assign(truth, labels)[0]
    fine, coarse = assigned[:64].view(8, 8), assigned[64:].view(4, 4)
    assert fine[2, 3] == 2, "of two boxes with the same centre, the smaller one"
    assert coarse[1, 1] == 1
    assert (assigned != UNMATCHED).sum() == 2


def test_yolo_loss_is_small_for_the_true_boxes():
    head = YOLO(8, 2, (32, 32), (4, 8)).double()
    truth = torch.tensor([[[8.0, 4, 20, 16], [4.0, 4, 28, 28]]], dtype=torch.float64)
    labels = torch.tensor([[0, 1]])
    outputs = torch.zeros(1, 80, 7, dtype=torch.float64)
    outputs[..., 4] = -30
    assigned = head.assign(truth, labels)[0]
    for place in range(2):
        cell = int((assigned == place).nonzero())
        stride = head.strides[cell]
        middle = (truth[0, place, :2] + truth[0, place, 2:]) / 2
        share = ((middle - head.centres[cell]) / stride + 1) / 2
        outputs[0, cell, :2] = (share / (1 - share)).log()
        outputs[0, cell, 2:4] = ((truth[0, place, 2:] - truth[0, place, :2]) / (REFERENCE * stride)).log()
        outputs[0, cell, 4] = 30
        outputs[0, cell, 5:] = torch.tensor([30.0, -30.0] if labels[0, place] == 0 else [-30.0, 30.0])
    assert head.loss(outputs, truth, labels).item() < 1e-10
    found, probabilities = head.candidates(outputs)
    detections = select(found, probabilities)
    assert (detections.labels[0] != NO_BOX).sum() == 2
    torch.testing.assert_close(detections.boxes[0, :2].sort(0).values, truth[0].sort(0).values, rtol=1e-9, atol=1e-9)
    worse = outputs.clone()
    worse[0, 5, 4] = 0.0
    assert head.loss(worse, truth, labels).item() == pytest.approx(math.log(2) / 2, rel=1e-6), "an empty cell"
    near = outputs.clone()
    near[0, 18, 0], near[0, 18, 4] = math.log(7), 0.0  # the cell to the left, with the box (7, 4, 19, 16)
    near[0, 18, 1:4] = torch.zeros(3)
    assert head.loss(near, truth, labels).item() < 1e-10, "an empty cell whose box overlaps a true box"


def test_select_limits_scores_and_suppresses_each_class_on_its_own():
    found = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 0, 30, 10]]])
    probabilities = torch.tensor([[[0.9, 0.3], [0.8, 0.2], [0.001, 0.6]]])
    detections = select(found, probabilities)
    kept = [
        (label, round(score, 3), box)
        for label, score, box in zip(
            detections.labels[0].tolist(), detections.scores[0].tolist(), detections.boxes[0].tolist(), strict=True
        )
        if label != NO_BOX
    ]
    assert kept == [(0, 0.9, [0, 0, 10, 10]), (1, 0.6, [20, 0, 30, 10]), (1, 0.3, [0, 0, 10, 10])]


# Augmentation.


def test_boxes_move_with_the_pixels():
    """The edges of a white rectangle, found in the transformed image, are those of the transformed box."""
    torch.manual_seed(0)
    images, truth = torch.zeros(40, 3, 48, 64), torch.zeros(40, 1, 4)
    for image, box in enumerate(random_boxes(40, size=40.0).round().tolist()):
        left, top, right, bottom = (int(edge) for edge in (*box[:2], box[2] + 3, box[3] + 3))
        images[image, :, top:bottom, left:right] = 255
        truth[image, 0] = torch.tensor([left, top, min(right, 64), min(bottom, 48)])
    labels = torch.zeros(40, 1, dtype=torch.int64)
    factor, offset = random_transform(40, truth.device, zoom=1.25, upside_down=True)
    assert len({(fx < 0, fy < 0) for fx, fy in factor.tolist()}) == 4, "all four flips occur"
    moved, kept = transform_boxes(truth, labels, factor, offset, 48, 64)
    drawn = transform_images(images, factor, offset)
    assert (kept == 0).sum() >= 25
    for image in range(40):
        if kept[image, 0] == NO_BOX:
            continue
        inside = drawn[image, 0] > 190
        rows, columns = inside.any(1).nonzero().squeeze(1), inside.any(0).nonzero().squeeze(1)
        seen = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        assert (seen - moved[image, 0]).abs().max() <= 1.01


def test_boxes_that_leave_the_image_are_dropped():
    truth = torch.tensor([[[0.0, 0, 10, 10], [30.0, 30, 50, 50]]])
    factor, offset = torch.full((1, 2), 2.0), torch.zeros(1, 2)
    moved, labels = transform_boxes(truth, torch.tensor([[1, 2]]), factor, offset, 64, 64)
    assert labels.tolist() == [[NO_BOX, 2]]
    assert moved[0, 1].tolist() == [28, 28, 64, 64]


# Average precision.


def test_matching_by_hand():
    """The second detection finds its best box taken and takes the other one; the third finds none."""
    overlap = [[0.9, 0.6], [0.8, 0.7], [0.75, 0.6], [0.0, 0.0]]
    assert match_detections(overlap, [False, False], 0.5) == ([RIGHT, RIGHT, WRONG, WRONG], [0, 1, -1, -1])
    assert match_detections(overlap, [False, False], 0.75)[0] == [RIGHT, WRONG, WRONG, WRONG]
    assert match_detections(overlap, [True, False], 0.65)[0] == [IGNORED, RIGHT, IGNORED, WRONG]


def test_average_precision_by_hand():
    """Right, wrong, right, wrong, of three true boxes: precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3."""
    scores, verdicts = np.array([0.6, 0.9, 0.7, 0.8]), np.array([WRONG, RIGHT, RIGHT, WRONG])
    precision, recall = precision_recall(scores, verdicts, 3)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    exact = average_precision.average_precision(precision, recall, points=None)
    assert exact == pytest.approx(1 / 3 + 2 / 9)
    eleven = average_precision.average_precision(precision, recall, points=[n / 10 for n in range(11)])
    assert eleven == pytest.approx((4 * 1 + 3 * 2 / 3) / 11), "levels 0 to 0.3, and 0.4 to 0.6"
    coco = average_precision.average_precision(precision, recall)
    assert coco == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert average_precision.average_precision(precision[:0], recall[:0]) == 0


def test_measures_by_hand():
    truth = split_of([[(0, [0, 0, 10, 10], False), (1, [20, 20, 30, 30], False)], [(0, [0, 0, 10, 10], True)]])
    found = detections_of(
        [
            [(0, 0.9, [0, 0, 10, 8]), (1, 0.8, [20, 20, 30, 36]), (0, 0.7, [40, 40, 50, 50])],
            [(0, 0.95, [0, 0, 10, 10])],
        ]
    )
    measures = measure(found, truth, ("A", "B", "C"), by_class=True)
    assert measures["a_ap50"] == 1, "the detection of a difficult box is not counted, the wrong one comes last"
    assert measures["b_ap50"] == 1
    assert "c_ap50" not in measures, "no image has this class"
    assert measures["map50"] == 1
    assert measures["map75"] == pytest.approx(0.5), "IoU 0.8 and 0.625"
    assert measures["map"] == pytest.approx((7 + 3) / 20), "seven thresholds up to 0.8, three up to 0.6"


def test_a_split_without_boxes_has_the_measure_zero():
    found, truth = detections_of([[(0, 0.9, [0, 0, 10, 8])]]), split_of([[(NO_BOX, [0, 0, 0, 0], False)]])
    assert measure(found, truth, ("a",)) == {"map50": 0, "map75": 0, "map": 0}


def random_case(images=30, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows, found = [], []
    for image in range(images):
        true = random_boxes(1 + image % 5, seed + 1000 + image, dtype=torch.float32)
        labels = torch.randint(classes, (len(true),), generator=generator)
        rows.append([(int(label), box, False) for label, box in zip(labels, true.tolist(), strict=True)])
        noisy = torch.cat([true, true, random_boxes(3, seed + image, dtype=torch.float32)])
        noisy = noisy + 3 * torch.randn(noisy.shape, generator=generator)
        noisy[:, 2:] = torch.maximum(noisy[:, 2:], noisy[:, :2] + 1)
        guesses = torch.cat([labels, labels, torch.randint(classes, (3,), generator=generator)])
        scores = torch.rand(len(noisy), generator=generator).sort(descending=True).values
        order = torch.randperm(len(noisy), generator=generator)
        found.append(
            [
                (int(label), float(score), box)
                for label, score, box in zip(guesses[order], scores, noisy[order].tolist(), strict=True)
            ]
        )
    return detections_of(found), split_of(rows)


def test_mean_average_precision_equals_torchmetrics():
    """Skipped unless torchmetrics and pycocotools are installed; they are not dependencies of the project."""
    pytest.importorskip("pycocotools")
    detection = pytest.importorskip("torchmetrics.detection")
    found, truth = random_case()
    reference = detection.MeanAveragePrecision(class_metrics=True)
    for image in range(len(truth)):
        real, there = truth.labels[image] != NO_BOX, found.labels[image] != NO_BOX
        prediction = {
            "boxes": found.boxes[image][there],
            "scores": found.scores[image][there],
            "labels": found.labels[image][there],
        }
        reference.update([prediction], [{"boxes": truth.boxes[image][real], "labels": truth.labels[image][real]}])
    expected = reference.compute()
    ours = measure(found, truth, ("a", "b", "c"))
    assert ours["map50"] == pytest.approx(float(expected["map_50"]), abs=1e-6)
    assert ours["map75"] == pytest.approx(float(expected["map_75"]), abs=1e-6)
    assert ours["map"] == pytest.approx(float(expected["map"]), abs=1e-6)


def test_mean_average_precision_of_a_fixed_case():
    """The values of torchmetrics 1.9.0 with pycocotools for the case of the test above."""
    values = measure(*random_case(), ("a", "b", "c"))
    assert values == pytest.approx({"map50": FIXED[0], "map75": FIXED[1], "map": FIXED[2]}, abs=2e-6)


FIXED = (0.276371, 0.049877, 0.106302)


def test_average_precision_depends_on_the_order_of_scores_across_images():
    found, truth = random_case(images=10)
    before = average_precisions(found, truth, 3, (0.5,))
    higher = Detections(found.boxes, found.scores.clone(), found.labels)
    higher.scores[0] += 1  # all detections of the first image come first
    assert not np.array_equal(before, average_precisions(higher, truth, 3, (0.5,)))


def test_worst_errors_by_hand():
    truth = split_of(
        [
            [(0, [0, 0, 10, 10], False)],
            [(0, [0, 0, 10, 10], False), (1, [20, 20, 30, 30], False)],
            [(0, [0, 0, 10, 10], True)],
        ]
    )
    found = detections_of(
        [
            [(0, 0.9, [0, 0, 10, 9]), (1, 0.8, [30, 30, 40, 40])],
            [(0, 0.4, [0, 0, 10, 10]), (1, 0.3, [20, 20, 30, 30])],
            [],
        ]
    )
    assert worst_errors(found, truth) == [
        Errors(1, wrong=[], missed=[0, 1], severity=2.0),
        Errors(0, wrong=[1], missed=[], severity=float(found.scores[0, 1])),
    ]
