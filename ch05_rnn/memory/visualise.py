"""Show what a memory network has learned: error per task, and which statements each hop reads.

Dimensions: N questions, M statements, K hops, C answer classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ch05_rnn.memory.dynamic_memory import DynamicMemory
from ch05_rnn.memory.encoding import StoryEncoder
from ch05_rnn.memory.end_to_end import EndToEnd
from common.data.text.stories import Question, StorySet
from common.progress import print_table
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, LONGEST = 8, 8
"""Most questions of the figure, and most statements of their stories."""
SUPPORTING = "#b34700"
"""Colour of supporting facts."""


class Reading(NamedTuple):
    """How a network answers one question."""

    question: Question
    p: Tensor
    """(C,) probabilities of the answers"""
    attention: Tensor
    """(M, K) attention weight of each statement in each hop"""

    def predicted(self, encoder: StoryEncoder) -> str:
        """Return the most probable answer."""
        return encoder.answers.symbols[int(self.p.argmax())]


@torch.inference_mode()
def read(network: EndToEnd | DynamicMemory, encoder: StoryEncoder, questions: Sequence[Question]) -> list[Reading]:
    """Answer questions; the statements that do not fit in the memory are left out."""
    encoded = encoder.encode(questions).to(next(network.parameters()).device)
    logits, attention = network.answer(encoded.batch(torch.arange(len(questions), device=encoded.answers.device)))
    weights = attention.T.float().cpu().split(encoded.lengths.tolist())
    return [Reading(*row) for row in zip(questions, logits.float().softmax(1).cpu(), weights, strict=True)]


def report(
    run: Run,
    data: StorySet,
    network: EndToEnd | DynamicMemory,
    encoder: StoryEncoder,
    predicted: Tensor,
    measures: dict[str, dict[str, float]],
) -> None:
    """Print and draw the error per task; write all answers; draw what the hops read, and the curves."""
    from common.drawing import plots

    names = {"test": "memory network", "test_ngrams": "n-grams", "test_chance": "chance"}
    rows = [
        [title, *(f"{100 * its[f'{task}_error_rate']:.2f}" for its in measures.values())]
        for task, title in data.tasks.items()
        if f"{task}_error_rate" in measures["test"]
    ]
    rows.append(["mean", *(f"{100 * its['error_rate']:.2f}" for its in measures.values())])
    print_table(["task", *(names[split] for split in measures)], rows, title="test error rate, %")
    titles = [f"{task.replace('_', ' ')}: {title}" for task, title in data.tasks.items()]
    errors = [100 * measures["test"].get(f"{task}_error_rate", 0.0) for task in data.tasks]
    run.figure("tasks", plots.bars(titles, errors, title="error rate per task", label="%"))
    answers = [encoder.answers.symbols[number] for number in predicted.tolist()]
    with run.writing("answers.tsv") as path:
        lines = (
            "\t".join(
                (q.task, "right" if ours == q.answer.lower() else "wrong", " ".join(q.story), q.text, ours, q.answer)
            )
            for q, ours in zip(data.test, answers, strict=True)
        )
        path.write_text("\n".join(["task\tverdict\tstory\tquestion\tanswer\ttarget", *lines, ""]), encoding="utf-8")
    run.figure("attention", draw_reading(read(network, encoder, examples(data)), encoder))
    run.figure(
        "curves", plots.curves(run.history, {"loss": ["train_loss", "valid_loss"], "error rate": ["valid_error_rate"]})
    )


def examples(data: StorySet) -> list[Question]:
    """Return the first test question with a short story of each task, of at most SHOWN tasks."""
    short = [question for question in data.test if len(question.story) <= LONGEST] or data.test
    first = {task: next((q for q in short if q.task == task), None) for task in data.tasks}
    return [question for question in first.values() if question is not None][:SHOWN]


def draw_reading(readings: Sequence[Reading], encoder: StoryEncoder) -> "Figure":
    """Draw the attention of each hop (columns) to each statement (rows); supporting facts are in bold orange."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from common.drawing.plots import LOOK

    columns = 2 if len(readings) > 1 else 1
    rows = -(-len(readings) // columns)
    heights = [
        max(len(reading.attention) for reading in readings[row * columns : (row + 1) * columns]) + 2.2
        for row in range(rows)
    ]
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(4.6 * columns, 0.22 * sum(heights)))
        grid = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
        for axes, reading in zip(grid.flat, readings, strict=False):
            question, attention = reading.question, reading.attention
            statements = question.story[-len(attention) :]
            axes.grid(False)
            axes.imshow(attention.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
            dropped = len(question.story) - len(attention)
            ours = reading.predicted(encoder)
            wrong = "" if ours == question.answer.lower() else f" (right: {question.answer})"
            axes.set_title(f"{question.text.strip()} {ours}{wrong}", fontsize="small", loc="right")
            axes.set_yticks(range(len(statements)), statements, fontsize="small")
            for number, label in enumerate(axes.get_yticklabels(), start=dropped):
                if number in question.supporting:
                    label.set(color=SUPPORTING, fontweight="bold")
            axes.set_xticks(
                range(attention.shape[1]), [f"hop {k + 1}" for k in range(attention.shape[1])], fontsize="small"
            )
            axes.tick_params(length=0, pad=6)
            axes.set_xlim(-0.5, attention.shape[1] - 0.5)
        for axes in list(grid.flat)[len(readings) :]:
            axes.set_axis_off()
    return figure
