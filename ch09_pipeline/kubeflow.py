"""Compile the stages to a Kubeflow pipeline for a cluster, or run it on this machine.

    python -m ch09_pipeline.kubeflow --compile pipeline.yaml
    python -m ch09_pipeline.kubeflow --data runs/ch09_pipeline/work/shapes/data --new runs/ch09_pipeline/work/shapes/new

Kubeflow sends the source of a component to a container, so each function imports what it needs. Components exchange
artifacts, which are folders, as with the other engines.
"""

# kfp supplies the output arguments of components, and converts the pipeline function to a component:
# pyright: reportCallIssue=false, reportArgumentType=false

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from kfp import compiler, dsl, local
from kfp.dsl import Dataset, Input, Model, Output

from ch09_pipeline.sources import ROOT
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.files import atomic_path
from common.progress import say

IMAGE = "deep-learning-companion:0.1.0"
"""Container image with this suite and kfp."""

component = dsl.component(base_image=IMAGE, install_kfp_package=False)


@component
def prepare(data: Input[Dataset], prepared: Output[Dataset]):
    """Convert batches to tensors and cards."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.prepare", "--in", data.path, "--out", prepared.path]
    subprocess.run(words, check=True)


@component
def train(data: Input[Dataset], prepared: Input[Dataset], variant: str, epochs: int, seed: int, model: Output[Model]):
    """Train one variant of the network; of the raw data, only the class names are read."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.train", "--in", prepared.path, data.path, "--out", model.path]
    subprocess.run([*words, "--variant", variant, "--epochs", str(epochs), "--seed", str(seed)], check=True)


@component
def evaluate(model: Input[Model], prepared: Input[Dataset], evaluation: Output[Dataset]):
    """Evaluate a model on the test batches."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.evaluate", "--in", model.path, prepared.path]
    subprocess.run([*words, "--out", evaluation.path], check=True)


@component
def compare(first: Input[Dataset], second: Input[Dataset], comparison: Output[Dataset]):
    """Compare the evaluations."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.compare", "--in", first.path, second.path]
    subprocess.run([*words, "--out", comparison.path], check=True)


@component
def publish(
    comparison: Input[Dataset], first: Input[Model], second: Input[Model], threshold: float, published: Output[Model]
):
    """Publish the best model; fail if it is below the threshold."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.publish", "--in", comparison.path, first.path, second.path]
    subprocess.run([*words, "--threshold", str(threshold), "--out", published.path], check=True)


@component
def predict(published: Input[Model], new: Input[Dataset], predictions: Output[Dataset]):
    """Classify new images."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "ch09_pipeline.stages.predict", "--in", published.path, new.path]
    subprocess.run([*words, "--out", predictions.path], check=True)


@dsl.pipeline(name="shapes", description="Chapter 9: versioned data in, an evaluated model out.")
def pipeline(data: str, new: str, epochs: int = 12, threshold: float = 0.5, seed: int = 0):
    """Connect the stages; `data` and `new` are URIs of batches and new images, for example s3://bucket/batches."""
    batches = dsl.importer(artifact_uri=data, artifact_class=Dataset).output
    pictures = dsl.importer(artifact_uri=new, artifact_class=Dataset).output
    prepared = prepare(data=batches).output
    models = [
        train(data=batches, prepared=prepared, variant=variant, epochs=epochs, seed=seed).outputs["model"]
        for variant in ("dropout", "nodropout")
    ]
    evaluations = [evaluate(model=model, prepared=prepared).output for model in models]
    comparison = compare(first=evaluations[0], second=evaluations[1]).output
    published = publish(comparison=comparison, first=models[0], second=models[1], threshold=threshold).output
    predict(published=published, new=pictures)


@dataclass(frozen=True)
class Options:
    """Settings of the pipeline: compile it, or run it on this machine."""

    compile: Path | None = None
    """Compile the pipeline to this .yaml file, for a cluster."""
    data: Path | None = None
    """Folder of batches, for a run on this machine."""
    new: Path | None = None
    """Folder of new images to classify, for a run on this machine."""
    epochs: int = 12
    """Number of passes over the training images."""
    threshold: float = 0.5
    """Minimum validation accuracy, between 0 and 1, for a model to be published."""
    seed: int = 0
    """Random seed."""
    out: Path = Path("runs/ch09_pipeline/kubeflow")
    """Folder for the artifacts of a run on this machine."""

    def __post_init__(self) -> None:
        require_positive(self, "epochs")


def run(options: Options, data: Path, new: Path) -> None:
    """Run the pipeline on this machine, one task after the other, each in a process of its own.

    Raises ValueError if a folder does not exist or a task fails.
    """
    require(data.is_dir(), "--data must be a folder", data)
    require(new.is_dir(), "--new must be a folder", new)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONPATH"] = path
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", "You may be attemping", RuntimeWarning)  # about container images, not used here
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(options.out.resolve()))
    places = {"data": str(data.resolve()), "new": str(new.resolve())}
    try:
        pipeline(**places, epochs=options.epochs, threshold=options.threshold, seed=options.seed)
    except RuntimeError as error:  # the failed task has already printed its message
        raise ValueError(str(error)) from error


def main() -> None:
    """Read the command line, and compile or run the pipeline."""
    with one_line_errors():
        options = parse(Options, sys.argv[1:], prog="python -m ch09_pipeline.kubeflow", description=__doc__ or "")
        if options.compile is not None:
            if options.compile.suffix != ".yaml":
                raise ValueError(f"--compile {options.compile}: the file name must end in .yaml")
            with atomic_path(options.compile) as temporary:
                compiler.Compiler().compile(pipeline, str(temporary))
            say("saved", str(options.compile))
        elif options.data is None or options.new is None:
            raise ValueError("give --compile FILE, or --data and --new to run the pipeline here")
        else:
            run(options, options.data, options.new)


if __name__ == "__main__":
    main()
