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
# # Pipelines: checksums and provenance
#
# A pipeline runs stages: prepare batches, train, evaluate, publish. Each result of chapter 9 has a *card*, a JSON file
# with the checksums (SHA-256) of all inputs, of the source code of the stage and of the outputs. With $h$ for the
# checksum, a result is up to date if
#
# $$\bigl(h(\text{inputs}),\; \text{parameters},\; h(\text{code})\bigr)$$
#
# is the same as when it was made. Dates of files do not matter.
#
# The questions: what must run again after which change, what happens to a result of an interrupted stage, and how can
# training and validation images stay separate while new batches arrive?

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import torch

from ch09_pipeline.card import checksum, read_card
from ch09_pipeline.contract import cards_of
from ch09_pipeline.sources import code_checksum, source_files
from ch09_pipeline.stages.prepare import prepare, read_prepared
from common.data.images.cifar import encode_cifar
from common.data.images.image_set import Split
from common.data.images.shapes import draw_shapes
from common.drawing import plots

folder = Path(tempfile.mkdtemp())
raw, prepared = folder / "raw", folder / "prepared"
raw.mkdir()
shapes = draw_shapes(800, torch.Generator().manual_seed(0))
for number in range(4):
    part = slice(200 * number, 200 * number + 200)
    (raw / f"batch-{number}.bin").write_bytes(encode_cifar(Split(shapes.pixels[part], shapes.labels[part])))
print(prepare([raw], prepared))

# %% [markdown]
# ## What is in a card?
#
# **Before you run the cell:** which inputs does a prepared batch have? How many source files does its code checksum
# contain?

# %%
card = read_card(prepared / "batch-2.json")
print("inputs ", {name: value[:12] for name, value in card.inputs.items()})
print("outputs", {name: value[:12] for name, value in card.outputs.items()})
print("code   ", card.code[:12], f"from {len(source_files('ch09_pipeline.stages.prepare'))} files")
print("facts  ", {name: card.facts[name] for name in ("split", "images", "held_out")})

# %% [markdown]
# The code checksum covers the stage's module and all files of the suite that it imports, directly or indirectly. The
# training stage imports more: the network, the optimizer, the run folder.
#
# ## What must run again?
#
# **Before you run the cell:** for each change, how many of the four prepared batches have other checksums than before:
# (a) all files are written again with the same content, (b) one pixel of batch 2 changes, (c) a fifth batch is added,
# (d) batch 0 is renamed?


# %%
def output_checksums() -> dict[str, str]:
    """Prepare the raw batches; return the checksum of each prepared file."""
    prepare([raw], prepared)
    return {path.name: checksum(path) for path in sorted(prepared.glob("*.safetensors"))}


before = output_checksums()
changed = {}
for path in raw.glob("*.bin"):
    path.write_bytes(path.read_bytes())
changed["same content"] = sum(before.get(name) != value for name, value in output_checksums().items())
data = bytearray((raw / "batch-2.bin").read_bytes())
data[100] ^= 1
(raw / "batch-2.bin").write_bytes(data)
changed["one pixel"] = sum(before.get(name) != value for name, value in output_checksums().items())
before = output_checksums()
new = draw_shapes(200, torch.Generator().manual_seed(1))
(raw / "batch-4.bin").write_bytes(encode_cifar(new))
changed["new batch"] = sum(before.get(name) != value for name, value in output_checksums().items())
before = output_checksums()
(raw / "batch-0.bin").rename(raw / "batch-9.bin")
after = output_checksums()
changed["renamed"] = sum(value not in before.values() for value in after.values())
(raw / "batch-9.bin").rename(raw / "batch-0.bin")
for path in prepared.glob("batch-9.*"):  # results of files that are gone stay until they are deleted
    path.unlink()
print("prepared batches with new content:", changed)
plots.bars(
    list(changed),
    [float(count) for count in changed.values()],
    title="prepared batches with new content",
    label="batches",
)

# %% [markdown]
# Rewriting a file changes only its date, so nothing has new content. One pixel changes one batch, and everything that
# depends on it: the training must run again, the other three batches need not be prepared again. A renamed batch has
# the same content; only the name in the card changes.
#
# ## What happens to an interrupted stage?
#
# The card is written last. **Before you run the cell:** what does `read_card` do if (a) the output is missing, (b) one
# bit of the output has changed, (c) only the output exists, but no card?

# %%
messages = {}
target = prepared / "batch-3.safetensors"
content = target.read_bytes()
target.unlink()
try:
    read_card(prepared / "batch-3.json")
except ValueError as error:
    messages["missing"] = str(error).replace(str(folder), "...")
target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
try:
    read_card(prepared / "batch-3.json")
except ValueError as error:
    messages["damaged"] = str(error).replace(str(folder), "...")
(prepared / "batch-3.json").unlink()
messages["no card"] = f"{len(cards_of([prepared], 'prepare'))} results are used"
for name, message in messages.items():
    print(f"{name:8} {message}")

# %% [markdown]
# A result without a card does not exist for later stages, and one that does not match its card is refused with the
# command that repairs it. No stage can use half of a file.
#
# ## How do training and validation images stay separate?
#
# An image is held out for validation if a checksum of its pixels is divisible by 10: the decision depends on the image
# alone.
#
# **Before you run the cell:** with a random split of all images by position, what happens to the validation set if a
# batch is added or images are reordered? And with the checksum? What happens to two equal images?

# %%
prepare([raw], prepared)
pixels, _, held_out = read_prepared(cards_of([prepared], "prepare"))
share = float(held_out.mean())
shuffled = draw_shapes(200, torch.Generator().manual_seed(1))
order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
(raw / "batch-4.bin").write_bytes(encode_cifar(Split(shuffled.pixels[order], shuffled.labels[order])))
prepare([raw], prepared)
pixels_after, _, held_out_after = read_prepared(cards_of([prepared], "prepare"))
chosen = {image.tobytes() for image in pixels[held_out]}
chosen_after = {image.tobytes() for image in pixels_after[held_out_after]}
print(
    f"held out: {share:.1%} of {len(pixels)} images; the same images after reordering a batch: {chosen == chosen_after}"
)

# %% [markdown]
# The split is stable: no image ever moves from validation to training, and duplicates are on the same side. A split by
# position would move images and leak validation images into the training set.
#
# ## Which code belongs to a result?
#
# **Before you run the cell:** does a change of a comment in `optimizers.py` of chapter 2 make the training of chapter 9
# out of date? And one in chapter 6's network?

# %%
files = [str(path) for path in source_files("ch09_pipeline.stages.train")]
print(f"{len(files)} files, checksum {code_checksum('ch09_pipeline.stages.train')[:12]}")
for name in ("ch02_nn/optimizers.py", "ch06_cnn/convolution/cnn.py"):
    print(f"{name:30} {'belongs to' if name in files else 'does not belong to'} the training stage")

# %% [markdown]
# The checksum follows the imports. A comment changes it, too: the price of a rule without exceptions is one unnecessary
# run.
#
# ## Continue
#
# - Chapter 9's [page](../../ch09_pipeline/README.md) runs the whole pipeline with Snakemake;
#   `python -m ch09_pipeline.train provenance` traces a model to its data. Exercises 2 and 3
#   (`python -m ch09_pipeline.exercises 2`) ask for a cache key and a stable split.
