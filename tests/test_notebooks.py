"""The notebooks in docs/notebooks: they run, their texts agree with the results, and they contain no copies of code."""

import ast
import importlib
import importlib.util
import io
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from common.data.mazes.maze import distances
from companion import notebooks
from conftest import ROOT
from test_house import CHAPTERS

SOURCES = notebooks.sources()
EACH = [pytest.param(path, id=name) for name, path in SOURCES.items()]
MARK = re.compile(r"^(# %%.*)\n", re.M)
PREDICTION = "**Before you run the cell:**"


def cells_of(path: Path) -> list[tuple[str, str]]:
    """Split a source into the kind and the text of each cell, without the header."""
    parts = MARK.split(path.read_text(encoding="utf-8"))[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [
        ("text", re.sub("^# ?", "", body, flags=re.M)) if "[markdown]" in mark else ("code", body)
        for mark, body in pairs
    ]


def run_cells(path: Path) -> tuple[dict[str, Any], list[Figure], list[float]]:
    """Run the code cells in this process; return their variables, the figures shown and the seconds of each cell.

    The value of an expression in the last line is shown, as in Jupyter.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    figures, seconds = [], []
    for kind, text in cells_of(path):
        if kind == "code":
            began = time.perf_counter()
            body = ast.parse(text).body
            last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), path.name, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
                if isinstance(value, Figure):
                    value.set_layout_engine(None)
                    value.savefig(io.BytesIO(), dpi=20)
                    figures.append(value)
                elif value is not None:
                    print(value)
            seconds.append(time.perf_counter() - began)
    return names, figures, seconds


# What the texts of each notebook state about its results. Statements about trained networks have wide margins, because
# rounding differs between processors.


def autodiff(v: Any) -> None:
    assert (v["once"], v["twice"]) == (7, 14)
    assert v["counts"]["f"] == list(range(2, 12))
    growth = {b - a for a, b in zip(v["counts"]["f and df/dx"], v["counts"]["f and df/dx"][1:], strict=False)}
    assert growth == {4}
    assert v["best"]["float64"] < v["best"]["float32"]
    assert float(v["errors"]["float64"].min()) < float(v["errors"]["float32"].min())


def numerics(v: Any) -> None:
    assert -105 < float(v["failing"].max()) < -87
    assert v["non_finite"](v["rewritten"].value) == v["non_finite"](v["rewritten"].gradient) == 0
    (log_k, log_error), (difference_k, _), (naive_k, naive_error), (stable_k, stable_error) = v["table"].values()
    assert log_k == pytest.approx(1e4, rel=1e-3) and difference_k == pytest.approx(1e4, rel=1e-3)
    assert naive_k == pytest.approx(1, rel=1e-3) and stable_k == pytest.approx(1, rel=1e-3)
    assert log_error > 1e-5 and naive_error > 1e-4 and stable_error < 1e-6
    assert all(before > 0 and after == 0 for before, after in v["broken"].values())


def initialisation(v: Any) -> None:
    assert v["largest"]["sigmoid"] == pytest.approx(0.25)
    back = {name: gradients[0] for name, (_, gradients) in v["found"].items()}
    assert back["sigmoid"] < 1e-16 < back["relu"] < 1e-3 < back["tanh"]
    flat, grown = v["backs"]["relu, he-normal"], v["backs"]["relu, unit-normal"]
    assert 0.3 < flat[0] / flat[-1] < 3
    assert grown[0] / grown[-1] > 1e28
    assert 1.5 < v["backs"]["tanh, he-normal"][0] < 100
    sigmoid, *relu = v["accuracy"].values()
    assert sigmoid < 0.25 and min(relu) > 0.8


def optimizers(v: Any) -> None:
    sgd, momentum, adam = (v["needed"][rule] for rule in ("sgd", "momentum", "adam"))
    assert 50 < sgd[-1] / sgd[0] < 150  # kappa is 100 times as large
    assert min(momentum) > 80 and max(momentum) < 130
    assert max(adam) < 2 * min(adam)
    assert all(before == after for before, after in (v["rotated"]["sgd"], v["rotated"]["momentum"]))
    assert all(before < after for before, after in (v["rotated"]["rmsprop"], v["rotated"]["adam"]))
    assert v["changes"]["sgd"] == pytest.approx([0.02 * scale for scale in v["scales"]])
    assert v["changes"]["adam"] == pytest.approx([0.01] * 5, rel=1e-4)
    assert v["losses"]["constant"][-1] == pytest.approx(0.056, rel=0.3)
    assert max(v["losses"]["cosine"][-1], v["losses"]["one-cycle"][-1]) < 0.02


def overfitting(v: Any) -> None:
    assert v["errors"]["fitted points"] == sorted(v["errors"]["fitted points"], reverse=True)
    assert v["best_degree"] in (3, 5)
    assert v["errors"]["sine"][14] > 10 * v["errors"]["sine"][v["best_degree"]]
    assert v["by_size"][0] > v["level"] > v["by_size"][-1]
    assert v["level"] < min(v["by_decay"]) < v["by_decay"][0]
    assert v["chosen"] == sorted(v["chosen"], reverse=True)
    assert v["hits"]["error on the fitted points"] < v["hits"]["cross-validation"] < 20


def autoencoder(v: Any) -> None:
    assert v["pca_errors"] == sorted(v["pca_errors"], reverse=True)
    assert v["pca_errors"][5] < v["history"][-1] < v["pca_errors"][3]
    assert v["errors"]["digits"] < v["errors"]["upside down"] < v["errors"]["inverted"]
    errors = v["denoised"]
    assert errors["denoising autoencoder"] < min(errors["PCA, 64 components"], errors["PCA, 8 components"])
    assert errors["PCA, 64 components"] == pytest.approx(errors["PCA, 8 components"], rel=0.4)


def boltzmann(v: Any) -> None:
    last = {name: values[-1] for name, (_, _, values) in v["variants"].items()}
    assert last["CD-1"] == min(last.values())
    assert max(last.values()) < -math.log(8)
    for found in v["chain"].values():
        assert found["first bar"][0] > 0.5 and found["first bar"][-1] < 0.35
    log_likelihood, mean_free_energy = v["log_likelihood"], v["mean_free_energy"]
    rbm, shifted, data = v["rbm"], v["shifted"], v["data"]
    assert mean_free_energy(shifted, data) < mean_free_energy(rbm, data)
    of = {each: log_likelihood(each, data, v["exact_log_partition"](each)) for each in (rbm, shifted)}
    assert of[shifted] < of[rbm]


def films(v: Any) -> None:
    assert 0 < v["best_prior"]["all ratings"] <= v["best_prior"]["three ratings per user"]
    few = v["by_prior"]["three ratings per user"]
    assert few[0] > 1.2 * min(few)
    assert v["errors"]["training"][-1] < v["floor"] < v["errors"]["validation"][-1]
    assert v["errors"]["validation"][-1] > 1.1 * v["errors"]["validation"][2]
    assert max(v["errors"]["validation, larger penalty"][2:]) < 1.02 * min(v["errors"]["validation, larger penalty"])
    ndcg = {name: found["ndcg_at_10"] for name, found in v["scores"].items()}
    assert ndcg["popularity"] < ndcg["biases"] < min(ndcg["factorisation"], ndcg["EASE"])
    assert v["scores"]["popularity"]["coverage"] < v["scores"]["EASE"]["coverage"]


def training_steps(v: Any) -> None:
    first, last = ({name: values[place] for name, values in v["intensity"].items()} for place in (0, -1))
    assert first["cnn"] == max(first.values()) and last["mlp"] == max(last.values())
    assert first["mlp"] < 1
    assert v["sums"][-1] == 4 and v["weights"][-1] == 1
    plain, normalised = v["differences"].values()
    assert plain < 1e-12 and normalised > 1e-3
    assert v["shares"] == pytest.approx([2 * (n - 1) / n for n in v["counts"]], rel=1e-3)
    assert v["worst"] < 1e-5


def recurrence(v: Any) -> None:
    end = {label: float(norm[-1] / norm[0]) for label, norm in v["norms"].items()}
    assert max(end["RNN, default"], end["LSTM, default"]) < 1e-9
    assert 1e-4 < end["RNN, orthogonal"] < 1 < 100 < end["RNN, orthogonal × 2"] < 2**60
    sigmoid = [1 / (1 + math.exp(-bias)) for bias in v["biases"]]
    assert v["factors"] == pytest.approx(sigmoid, abs=0.02)
    loss = {label: float(curve[-1]) for label, curve in v["curves"].items()}
    assert loss["LSTM, default"] > 1.9 and loss["LSTM, chrono"] < 0.5
    assert loss["RNN, default"] < 1.9
    assert v["difference"] < 1e-10


def attention(v: Any) -> None:
    assert max(v["largest"]["scaled"]) < 0.25 and v["largest"]["not scaled"][-1] > 0.9
    assert v["slopes"]["not scaled"][-1] < 0.15 < 0.8 < min(v["slopes"]["scaled"])
    assert v["counts"] == [5, 9, 17, 33]
    assert v["affected"] == {"causal mask": [7], "no mask": list(range(8))}
    same, shifted, far, other = v["pairs"].values()
    assert same == pytest.approx(shifted, abs=1e-9) == pytest.approx(far, abs=1e-9) and abs(same - other) > 0.01


def language(v: Any) -> None:
    losses = v["losses"]
    assert losses["training text"] == sorted(losses["training text"], reverse=True)
    assert v["enough"]["validation, a tenth of the text"] < v["enough"]["validation text"] < 7
    assert min(losses["validation, a tenth of the text"]) > min(losses["validation text"])
    sure, unsure, _ = v["entropies"].values()
    assert sure[5] < 0.1 and unsure[5] == max(values[5] for values in v["entropies"].values())
    assert list(v["kept"].values()) == sorted(v["kept"].values(), key=lambda n: n != 1) and v["kept"]["the "] > 10
    best = min(v["by_temperature"], key=v["by_temperature"].get)
    assert best in (1.0, 1.2) and v["by_temperature"][0.2] > 2 * v["by_temperature"][best]


def words(v: Any) -> None:
    assert list(v["accuracy"].values()) == sorted(v["accuracy"].values())
    assert v["by_size"][3] < 0.3 < 0.7 < v["by_size"][-2]
    assert v["by_window"][1] < v["by_window"][2] < v["by_window"][5]
    assert 0.3 < v["share"] < 0.7


def sentences(v: Any) -> None:
    accuracy = {name: dict(zip(v["kinds"], values, strict=True)) for name, values in v["by_kind"].items()}
    assert 0.35 < accuracy["order 1"]["contrast"] < 0.65 and 0.35 < accuracy["order 1"]["concession"] < 0.65
    assert accuracy["order 2"]["negated"] > 0.95 > accuracy["order 1"]["negated"]
    assert accuracy["order 3"]["contrast"] > accuracy["order 2"]["contrast"]
    assert max(each["unfamiliar"] for each in accuracy.values()) < 0.3
    assert v["drop"]["order 1"][0] == v["drop"]["order 1"][1]
    assert all(v["drop"][name][0] > v["drop"][name][1] + 0.1 for name in ("order 2", "order 3"))
    assert v["found"] == pytest.approx({1: 0.15, 2: 0.4, 3: 0.4})
    assert v["lengths"] == {0.0: 1, 0.5: 8, 1.0: 8}


def subwords(v: Any) -> None:
    assert v["lengths"] == sorted(v["lengths"], reverse=True) and v["lengths"][-1] > v["words"]
    learned = [len(encoding.merges) for encoding in v["encodings"].values()]
    assert learned[-1] == learned[-2] < 1_600
    assert v["pieces"]["Mann 400"] == [" Mann"] and len(v["pieces"]["Holztisch 400"]) == 2
    bleu = v["bleu"]
    assert bleu["none"] == pytest.approx(1)
    assert (
        bleu["last word doubled"] > bleu["one word replaced"] > bleu["first four words only"] > bleu["words shuffled"]
    )
    assert v["single"] == 0 < v["both"]


def forecasting(v: Any) -> None:
    linear, naive, best = v["by_step"].values()
    assert float(best[0]) < 0.5 * float(linear[0]) and float(best[-1]) > 0.95 * float(linear[-1])
    assert float(naive[23] - naive[0]) == pytest.approx(0, abs=0.02) and float(naive[24] - naive[23]) > 0.1
    without, _, four = v["table"].values()
    assert four[1] < 1.02 * min(four) and without[0] > 1.5 * without[-1]
    with_harmonics, with_lags, naive = v["extra"].values()
    assert float((naive - 1).abs().max()) < 1e-3
    assert float(with_harmonics[-1]) > float(with_harmonics[0]) and float(with_lags[-1]) > 1.05


def convolution(v: Any) -> None:
    (exact, pooled, mean), (exact_2, pooled_2, _) = v["found"].values()
    assert max(exact, exact_2, pooled_2) < 1e-12 and pooled > 0.1 and mean < 0.05
    sides = list(v["sides"].values())
    assert sides[:3] == [5, 9, 17] and sides[3] > 9
    perceptron, convolutional = v["scores"].values()
    assert perceptron[0] > convolutional[0] > 0.6
    assert perceptron[-1] < 0.35 and min(convolutional) > 0.4
    assert convolutional[4] > convolutional[2]


def detection(v: Any) -> None:
    assert v["half"] == pytest.approx({"shift": 20 / 3, "diagonal shift": 3.67, "enlargement": 2**0.5}, abs=0.26)
    ap = v["ap"]
    exact = ("no error", "twice, lower scores", "false boxes, low scores")
    assert [ap[name] for name in exact] == pytest.approx([1, 1, 1])
    assert 0.85 < ap["a tenth missing"] < 0.98
    assert ap["false boxes, high scores"] < ap["false boxes, random scores"] < 0.9
    best = max(v["by_threshold"])
    assert max(v["by_threshold"][0], v["by_threshold"][-1]) < best - 0.1
    assert v["kept"][0] < 1 and v["kept"][-1] == pytest.approx(4, abs=0.05)
    small, all_sides = v["matched"].values()
    assert small < 0.7 < 0.95 < all_sides


def segmentation(v: Any) -> None:
    assert v["accuracies"][1] > 0.97 and max(v["ious"]) <= 0.5
    larger = v["errors"]["radius + 1"]
    assert larger[0] < 0.6 and larger[-1] > 0.9
    assert v["minimum"]["cross-entropy"] == pytest.approx(v["share"], abs=0.006)
    assert v["minimum"]["Dice"] < 0.05
    assert v["shares"]["cross-entropy"] == pytest.approx(v["pixels"], rel=1e-3)
    assert v["shares"]["Dice"][1] > 2.5 * v["pixels"][1]
    assert v["restored"][3] == 0 and v["restored"][20] > 0.9


def style(v: Any) -> None:
    losses = v["losses"]
    assert losses["shifted"] == min(losses.values())
    assert (
        max(losses["upside down"], losses["quarters exchanged"]) < losses["pixels shuffled"] < losses["content picture"]
    )
    assert v["history"][-1] < 0.2 * v["history"][0]
    assert float((v["texture"] - v["style"]).abs().mean()) > 0.15
    content, styles = zip(*v["measured"].values(), strict=True)
    assert list(content) == sorted(content) and list(styles) == sorted(styles, reverse=True)


def planning(v: Any) -> None:
    assert v["gaps"][3] == max(v["gaps"])
    assert v["lengths"] == [len(v["shortest_path"](v["maze"])) - 1] * len(v["discounts"])
    steps = distances(v["maze"])
    assert v["known"] == [int(((steps >= 1) & (steps <= sweeps)).sum()) for sweeps in (1, 5, 15)]
    last = {name: rates[-1] for name, (_, rates) in v["curves"].items()}
    assert last["epsilon 1"] > 0.85 and last["epsilon 0"] < last["epsilon 1"]
    assert v["returns"][0.0] > v["returns"][0.3] > 5 * v["returns"][1.0]


def autoencoding(v: Any) -> None:
    assert v["lowest"] == pytest.approx({"exact": 1, "book": 1}, abs=0.02)
    assert bool((v["book"] <= v["exact"] + 1e-7).all())
    reconstruction, kl = ({beta: pair[place] for beta, pair in v["measured"].items()} for place in (0, 1))
    assert reconstruction[0.0] > reconstruction[1.0] > reconstruction[20.0]
    assert kl[0.0] > kl[1.0] > 1 > kl[20.0]
    assert max(v["measured"], key=lambda beta: reconstruction[beta] - kl[beta]) == 1.0
    for values in v["bounds"].values():
        assert values == sorted(values)
    assert v["estimates"] == pytest.approx((1, math.exp(-1)), abs=0.02)


def adversarial(v: Any) -> None:
    assert v["norms"]["saturating"][-1] < 0.1 * v["norms"]["saturating"][0]
    assert v["norms"]["non-saturating"][-1] > 0.5 * v["norms"]["non-saturating"][0]
    assert (v["offset"], v["slope"]) == pytest.approx((0.5, -1), abs=0.05)
    assert v["final"] < 2 * math.log(2)
    assert v["single"] == 0 and v["variances"][0] < v["variances"][-1] < 0.8


def provenance(v: Any) -> None:
    assert v["changed"] == {"same content": 0, "one pixel": 1, "new batch": 1, "renamed": 0}
    assert "is missing" in v["messages"]["missing"] and "does not match" in v["messages"]["damaged"]
    assert v["messages"]["no card"] == "4 results are used"
    assert 0.05 < v["share"] < 0.15
    assert v["chosen"] == v["chosen_after"]
    assert "ch06_cnn/convolution/cnn.py" in v["files"] and "ch02_nn/optimizers.py" not in v["files"]


def deployment(v: Any) -> None:
    assert max(v["deltas"].values()) < v["TOLERANCE"]
    assert v["differences"] == sorted(v["differences"], reverse=True)
    eight = v["bits"].index(8)
    assert v["differences"][eight] > 50 * v["TOLERANCE"]
    assert v["accuracies"][0] < v["accuracies"][eight] - 0.03
    assert v["accuracies"][eight] == pytest.approx(v["accuracies"][-1], abs=0.02)
    assert v["measured"]["mean"] == pytest.approx(v["theory"], rel=0.3)
    assert all(
        far > 3 * near for far, near in zip(v["measured"]["99th percentile"], v["measured"]["median"], strict=True)
    )


STATEMENTS: dict[str, Callable[[Any], None]] = {
    "ch01_autodiff": autodiff,
    "ch01_numerics": numerics,
    "ch02_initialisation": initialisation,
    "ch02_optimizers": optimizers,
    "ch02_overfitting": overfitting,
    "ch03_autoencoder": autoencoder,
    "ch03_boltzmann": boltzmann,
    "ch03_films": films,
    "ch04_training_steps": training_steps,
    "ch05_attention": attention,
    "ch05_forecasting": forecasting,
    "ch05_language": language,
    "ch05_recurrence": recurrence,
    "ch05_sentences": sentences,
    "ch05_subwords": subwords,
    "ch05_words": words,
    "ch06_convolution": convolution,
    "ch06_detection": detection,
    "ch06_segmentation": segmentation,
    "ch06_style": style,
    "ch07_planning": planning,
    "ch08_adversarial": adversarial,
    "ch08_autoencoding": autoencoding,
    "ch09_provenance": provenance,
    "ch10_deployment": deployment,
}


@pytest.mark.slow
@pytest.mark.parametrize("path", EACH)
def test_notebook_runs_and_its_text_agrees_with_its_results(path, capsys, record_property):
    if path.stem == "ch10_deployment":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[export]'")
    names, figures, seconds = run_cells(path)
    record_property("seconds_of_cells", [round(each, 2) for each in seconds])  # a report, not a check
    assert figures, "the notebook shows no figure"
    assert capsys.readouterr().out.strip(), "the notebook prints nothing"
    STATEMENTS[path.stem](names)


def test_every_notebook_and_every_chapter_is_covered():
    assert STATEMENTS.keys() == SOURCES.keys()
    assert {name[:4] for name in SOURCES} == {chapter[:4] for chapter in CHAPTERS}


@pytest.mark.parametrize("path", EACH)
def test_imported_names_exist(path):
    found = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not any(name.startswith(("ch0", "ch1", "common")) for name in modules), "import names, not modules"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("ch0", "ch1", "common")):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                found += node.module.startswith("ch")
    assert found, "the notebook uses nothing of its chapter"


def defined_in(path: Path, *, nested: bool) -> set[str]:
    """Return the functions and classes that a file defines, with `nested` also those inside of others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if nested else tree.body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_notebooks_define_no_function_of_the_suite():
    files = [path for package in ("common", *CHAPTERS) for path in (ROOT / package).rglob("*.py")]
    own = set().union(*(defined_in(path, nested=False) for path in files if "exercises" not in path.parts))
    assert len(own) > 1_000
    for name, path in SOURCES.items():
        assert not defined_in(path, nested=True) & own, f"{name} defines a function that the suite has: import it"


@pytest.mark.parametrize("path", EACH)
def test_notebook_has_questions_with_predictions(path):
    text = path.read_text(encoding="utf-8")
    assert "format_name: percent" in text.partition("# %%")[0]
    cells = cells_of(path)
    assert re.match(r"# [A-Z].+\n\n", cells[0][1]), "the first cell needs a title"
    assert "$" in cells[0][1], "the first cell needs the formulas"
    assert 2 <= text.count("\n# ## ") - 1 <= 6, "two to five questions, then Continue"
    assert re.search(r"^## Continue\n\n- [^#]+\Z", cells[-1][1], re.M), "the last section is a list: Continue"
    for (kind, asked), (after, _), (last, answer) in zip(cells, cells[1:], cells[2:], strict=False):
        if kind == "text" and PREDICTION in asked:
            assert (after, last) == ("code", "text"), "a prediction needs a cell to run and an explanation"
            assert not answer.startswith("#"), "an explanation must follow the cell"
    assert text.count(PREDICTION) >= 3
    count = sum(len(body.split()) for kind, body in cells if kind == "text")
    assert 350 <= count <= 900, f"{count} words: 15 minutes with the code need 350 to 900"
    words = "\n".join(body for kind, body in cells if kind == "text")
    for target in re.findall(r"\]\((\S[^)#]*)\)", re.sub(r"`[^`]+`", "", words)):
        assert (path.parent / target).is_file(), f"{target} does not exist"
    for command in re.findall(r"`python -m (ch\w+)\.(\w+)", text):
        assert importlib.util.find_spec(".".join(command)), command


@pytest.mark.parametrize("path", EACH)
def test_notebook_has_no_absolute_path(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""["'`(]/(?!\w* *[)"'`])[\w.]+/|[A-Z]:\\\\|https?://|/home/|/tmp/|/root/""", text)


def test_the_index_lists_every_notebook():
    page = (notebooks.SOURCES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^\]]+\]\((\w+)\.py\) \| (\d+) \| .{20,} \|$", page, re.M)
    assert [name for name, _ in rows] == list(SOURCES)
    assert all(5 <= int(minutes) <= 20 for _, minutes in rows)


def walk_through() -> list[tuple[str, list[str]]]:
    """Return the commands of the index's console blocks, each with the lines that it prints."""
    page = (notebooks.SOURCES / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```console\n(.*?)```", page, re.S))
    return [
        (command, [line.strip() for line in text.splitlines() if line.strip() not in ("", "...")])
        for command, text in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", blocks, re.M)
    ]


def test_the_walk_through_shows_real_output(tmp_path, capsys, monkeypatch):
    from ch02_nn import descent
    from ch02_nn import exercises as chapter
    from common import cli
    from common.exercises import command

    monkeypatch.setenv("COLUMNS", "100")
    page = (notebooks.SOURCES / "README.md").read_text(encoding="utf-8")
    wrong, right = re.findall(r"```python\n    (return .*)\n```", page)
    home = Path(chapter.__file__).parent
    answers = tmp_path / "ch02_nn" / "exercises"
    shutil.copytree(home, answers, ignore=shutil.ignore_patterns("__pycache__"))
    task = answers / "ex1_learning_rate.py"
    started = task.read_text(encoding="utf-8")
    checked = importlib.import_module("ch02_nn.exercises.checks").EXERCISES

    def outputs() -> Iterator[str]:
        cli.main(descent, arguments=["descent", "--out", str(tmp_path)])
        yield capsys.readouterr().out
        command.main(checked, home, ["--folder", str(answers)])
        yield capsys.readouterr().out
        for answer, code in ((wrong, 1), (right, 0)):
            task.write_text(started.replace("raise NotImplementedError", answer), encoding="utf-8")
            with pytest.raises(SystemExit) as stop:
                command.main(checked, home, ["1", "--folder", str(answers)])
            assert stop.value.code == code
            yield capsys.readouterr().out.replace(f"{tmp_path}/", "")
        command.main(checked, home, ["--folder", str(answers)])
        yield capsys.readouterr().out

    shown = [pair for pair in walk_through() if pair[0].startswith("python -m ch02_nn")]
    assert len(shown) == 5
    for (words, lines), output in zip(shown, outputs(), strict=True):
        printed = {" ".join(line.split()) for line in output.splitlines()}
        for line in lines:
            if not line.startswith(("device", "saved", "─")):
                assert " ".join(line.split()) in printed, f"{words} does not print {line!r}"


def test_an_unknown_notebook_is_refused(fails):
    assert "did you mean ch05_attention?" in fails(notebooks.main, ["ch05_atention"])


def test_an_installation_without_notebooks_is_named(fails, monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "SOURCES", tmp_path)
    assert "has no notebooks: run this command in a checkout" in fails(notebooks.main, [])


def test_a_missing_package_is_named(fails, monkeypatch, tmp_path):
    def read(_):
        raise ModuleNotFoundError("No module named 'jupytext'", name="jupytext")

    monkeypatch.setattr(notebooks, "read", read)
    error = fails(notebooks.main, ["ch05_attention", "--out", str(tmp_path / "out")])
    assert "jupytext is not installed" in error and "'.[notebooks]'" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variable", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"])
def test_the_first_cell_installs_the_package_only_where_it_is_missing(variable, monkeypatch):
    transformer = pytest.importorskip(
        "IPython.core.inputtransformer2", reason="jupytext is not installed: pip install '.[notebooks]'"
    )

    def run(repository: str) -> list[tuple[str, str]]:
        calls: list[tuple[str, str]] = []
        shell = type("Shell", (), {"run_line_magic": lambda _, name, line: calls.append((name, line))})()
        cell = notebooks.SETUP.format(repository=repository)
        exec(transformer.TransformerManager().transform_cell(cell), {"get_ipython": lambda: shell})
        return calls

    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert run("") == []
    monkeypatch.setenv(variable, "1")
    with pytest.raises(RuntimeError, match="set REPOSITORY"):
        run("")
    ((magic, line),) = run("an address")
    assert magic == "pip" and line.startswith("install") and "git+{REPOSITORY}" in line
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert run("an address") == []


@pytest.mark.slow
def test_written_notebook_has_its_outputs(tmp_path, capsys):
    pytest.importorskip("jupytext", reason="jupytext is not installed: pip install '.[notebooks]'")
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[notebooks]'")
    import nbformat

    (done,) = notebooks.write(notebooks.Config(("ch05_attention",), tmp_path)).values()
    written = nbformat.read(tmp_path / "ch05_attention.ipynb", as_version=4)
    nbformat.validate(written)
    first, second, *_ = written.cells
    assert "REPOSITORY" in first.source and first.outputs == []
    assert second.source.startswith("# Attention")
    code = [cell for cell in written.cells if cell.cell_type == "code"]
    assert len(done.seconds) == len(code) and min(done.seconds) >= 0
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert any("positions that the last output depends on" in output.get("text", "") for output in outputs)
    table = capsys.readouterr().out
    assert "slowest cell" in table and "ch05_attention" in table
