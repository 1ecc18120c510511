"""Model cards for readers, in the layout of the Hugging Face Hub: YAML metadata, then Markdown.

The metadata are written as JSON values, which are valid YAML. The server checks the machine-readable card, `NAME.json`;
this page repeats parts of it, and the first line of the program's docstring.
"""

import json
import math
from types import ModuleType
from typing import Any

TASKS = {
    "digits": "image-classification",
    "pictures": "image-classification",
    "decoder": "unconditional-image-generation",
    "diffusion": "unconditional-image-generation",
    "text": "text-generation",
    "transformer": "text-generation",
    "stories": "question-answering",
    "films": "other",
    "maze": "reinforcement-learning",
    "ppo": "reinforcement-learning",
    "dqn": "reinforcement-learning",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "style": "image-to-image",
}
"""Task of each network in the Hub's vocabulary."""


def metrics_of_test(card: dict[str, Any]) -> dict[str, float]:
    """Return the finite metrics of the test set, without the prefix `test_`."""
    found = {name.removeprefix("test_"): value for name, value in card["metrics"].items() if name.startswith("test_")}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def front_matter(card: dict[str, Any]) -> list[str]:
    """Return the YAML metadata, one line per entry."""
    task, data = TASKS[card["name"]], card["data"]
    metrics = metrics_of_test(card)
    entries: dict[str, Any] = {
        "license": "mit",
        "library_name": "onnx",
        "pipeline_tag": task,
        "tags": ["onnx", "pytorch", f"chapter-{int(card['chapter'][2:4])}"],
        "datasets": [data["name"]],
    }
    if metrics:
        result = {
            "task": {"type": task},
            "dataset": {"name": data["name"], "type": data["name"], "split": "test"},
            "metrics": [{"type": name, "value": value} for name, value in metrics.items()],
        }
        entries["model-index"] = [{"name": card["name"], "results": [result]}]
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in entries.items()), "---"]


def table_of_values(values: dict[str, Any]) -> list[str]:
    """Return a table of inputs or outputs, with named dimensions."""
    rows = [f"| `{name}` | {value['type']} | {value['shape']} |".replace("'", "") for name, value in values.items()]
    return ["| name | type | shape |", "|---|---|---|", *rows]


def model_card(card: dict[str, Any], program: ModuleType) -> str:
    """Return the model card of an exported network from its machine-readable card and the program that trained it."""
    name, data, parity = card["name"], card["data"], card["parity"]
    about = (program.__doc__ or "").strip().splitlines()[0]
    origin = " (embedded: generated, or shipped with a package)" if data["embedded"] else ""
    lines = [
        *front_matter(card),
        "",
        f"# {name}",
        "",
        about,
        "",
        f"Trained by `python -m {card['chapter']}.train {card['program']}` on {data['name']}{origin}.",
        "",
        "## Use",
        "",
        "```python",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{name}.onnx", providers=["CPUExecutionProvider"])',
        f"outputs = session.run(None, {{{', '.join(f'{json.dumps(key)}: {key}' for key in card['inputs'])}}})",
        "```",
        "",
        "Preprocessing and postprocessing are part of the graph. Inputs:",
        "",
        *table_of_values(card["inputs"]),
        "",
        "Outputs:",
        "",
        *table_of_values(card["outputs"]),
        "",
        "## Evaluation",
        "",
        f"On the test set of {data['name']}, one run:" if metrics_of_test(card) else "The run has no test metrics.",
        "",
        *(f"- {metric.replace('_', ' ')}: {value:.4g}" for metric, value in metrics_of_test(card).items()),
        "",
        f"On {parity['examples']} examples, the outputs of the graph differ from those of the PyTorch network by at",
        f"most {parity['onnx']:.1e}, relative to the largest output (at least 1).",
        "",
        "## Limitations",
        "",
        "The network was trained as an example, on this data set only, with one random seed. It has not been evaluated",
        "on other data.",
        "",
    ]
    return "\n".join(lines)
