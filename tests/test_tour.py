"""The tour: one table, one self-contained report, parallel stops, and counted failures."""

import ast
import html.parser
import importlib
import importlib.metadata
import io
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace

import networkx as nx
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from common import device as devices
from common.config import RunOptions
from common.data.images.binary import decode_cifar
from common.files import read_json
from companion import tour, tour_stops, tour_visit, tour_workers
from companion.tour_stops import STOPS, Stop
from companion.tour_visit import Request, Visit
from conftest import ROOT
from test_house import CHAPTERS, import_graph

BRIEF = {"data": "digits", "epochs": 2}
MAZE = ("shortest", "shortest_steps")
QUICK = [
    Stop("ch03_autoencoder_rbm.digits.feedforward", "test_accuracy", ("guessing", 0.1), short=BRIEF),
    Stop("ch07_dqn.mazes.q_table", "path_steps", MAZE),
    Stop("ch07_dqn.mazes.q_table", "path_steps", MAZE, {"rows": 3}),
]

PROBE = '''"""A program that reports when it runs."""

import os
import time
from dataclasses import dataclass, field

from common.config import RunOptions
from common.data.images.binary import decode_cifar


@dataclass(frozen=True)
class Config:
    name: str = ""
    does: str = ""
    run: RunOptions = field(default_factory=RunOptions)


def train(config):
    def say(what):
        with (config.run.out / "said.txt").open("a") as file:
            print(config.name, what, os.getpid(), time.monotonic(), config.run.threads, file=file)

    say("start")
    if config.does == "die":
        os._exit(7)
    if config.does == "raise":
        raise RuntimeError("a <b>bad</b> day")
    try:
        time.sleep(60 if config.does == "wait" else 0.2)
    except KeyboardInterrupt:
        say("cleaned")
        raise
    say("end")
    return {"score": 1.0}
'''


class Page(html.parser.HTMLParser):
    """Collect the links, ids and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids.add(named.get("id"))
        self.links += [named[key] for key in ("href", "src") if key in named]
        if tag == "img":
            self.images.append(named)


@pytest.fixture
def request_here(tmp_path):
    return Request(full=False, device="cpu", threads=1, folder=tmp_path)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Visits of the quick stops."""
    request = Request(full=False, device="cpu", threads=1, folder=tmp_path_factory.mktemp("tour"))
    return [tour_visit.visit(stop, request) for stop in QUICK], request


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """A chapter of probes, which workers can import."""
    package = tmp_path / "ch91_probe"
    package.mkdir()
    (package / "__init__.py").write_text('"""Chapter 91: probes."""\n')
    (package / "README.md").write_text("# Chapter 91: probes\n\nThey say when they run.\n\nMore.\n")
    (package / "probe.py").write_text(PROBE)
    (package / "later.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tour, "ROOT", tmp_path)
    return tmp_path


def probe(name, does="", module="probe", **named):
    return Stop(f"ch91_probe.{module}", "score", ("nothing", 0.0), {"name": name, "does": does}, **named)


def report_of(visits, tmp_path, **about):
    about = {"machine": devices.describe_machine(), "versions": devices.versions(), "seconds": 5, "workers": 2} | about
    tour.write_report(tmp_path / "index.html", visits, tour.Report(**about))
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def test_report_is_self_contained(tmp_path, seen):
    text = report_of(seen[0], tmp_path)
    page = Page(text)
    assert len(page.images) >= 8
    for image in page.images:
        assert re.match(r"data:image/(webp;base64,UklGR|png;base64,iVBOR|gif;base64,R0lGOD)", image["src"])
        assert image["alt"] and image["loading"] == "lazy"
        assert int(image["width"]) > 50 and 50 < int(image["height"]) <= 304, "so that the page does not jump"
    assert not re.search(r"img \{[^}]*[ {]width: auto", text), "images without a width are never loaded"
    for link in page.links:
        assert link.startswith("data:") or link.removeprefix("#") in page.ids, f"broken or foreign link {link[:60]}"
    assert not re.search(r"https?://|@import|url\(", text)
    command = "python -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2 --device cpu"
    for word in (f"<code>{command}</code>", devices.cpu_model(), "2 programs at a time"):
        assert word in text
    assert "q_table, rows 3" in text
    assert "guessing: 0.1" in text
    assert "Chapter 3: beyond basic networks" in text
    assert "This chapter trains four networks on handwritten digits" in text, (
        "the idea is how the chapter's README begins"
    )
    assert "epoch 2" in text, "the output of a program is in the report"


def test_the_report_shows_the_progress_in_the_exercises(tmp_path, monkeypatch):
    chapters = tour_visit.exercises_of(["ch01_graphs", "ch08_vae"])
    assert [chapter.package for chapter in chapters] == ["ch01_graphs", "ch08_vae"]
    one, other = chapters
    assert (one.solved, one.total, one.minutes) == (0, 8, 100)
    assert one.next == "1 Sum a gradient over broadcast dimensions"
    assert one.command == "python -m ch01_graphs.exercises 1"
    text = report_of([], tmp_path, exercises=[replace(one, solved=3), replace(other, next="", command="")])
    for part in ("3 of 8", f"{one.next}</td>", f"<code>{one.command}</code>", f"3 of {8 + other.total}"):
        assert part in text
    assert '<a href="#exercises">' in text
    assert "exercises" not in report_of([], tmp_path)


def test_animations_are_kept_and_pictures_are_compressed(seen):
    visits, request = seen
    (film,) = [picture for picture in visits[1].pictures if picture.name == "walk"]
    content = tour_visit.base64.b64decode(film.address.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) > 10
    original = next(request.folder.rglob("optimal_values.png"))
    assert len(tour_visit.inlined(original).address) < original.stat().st_size


def test_a_picture_that_webp_makes_larger_is_embedded_as_it_is(tmp_path):
    noise = torch.randint(2, (200, 200), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)) * 255
    path = tmp_path / "noise.png"
    Image.fromarray(noise.numpy()).convert("1").save(path)
    kind, _, content = tour_visit.inlined(path).address.partition(",")
    assert (kind, tour_visit.base64.b64decode(content)) == ("data:image/png;base64", path.read_bytes())


def test_runs_of_the_same_program_are_distinguished(seen):
    (_, usual, small), request = seen
    again = Visit(usual.stop)
    tour_visit.read_run(again, tour_visit.to_json(tour_visit.settings_of(usual.stop, request)), request.folder)
    assert again.pictures == usual.pictures
    assert {picture.name for picture in small.pictures} == {picture.name for picture in usual.pictures}
    assert small.pictures != usual.pictures
    assert "rows" not in usual.command and "--rows 3" in small.command
    assert usual.printed != small.printed


def test_a_failure_is_recorded(request_here, monkeypatch):
    def explode(config):
        raise RuntimeError("a bad day")

    monkeypatch.setattr("ch07_dqn.mazes.q_table.train", explode)
    seen = tour_visit.visit(QUICK[1], request_here)
    assert seen.error == "RuntimeError: a bad day"
    assert seen.result == "failed: RuntimeError: a bad day"
    assert "Traceback" in seen.printed
    wrong = tour_visit.visit(Stop("ch07_dqn.mazes.q_table", "path_steps", settings={"rows": 0}), request_here)
    assert "--rows must" in wrong.error, "settings that the program rejects are a failure, too"


def test_stops_run_in_parallel_and_a_dead_worker_is_replaced(probes, monkeypatch, capsys):
    stops = [
        probe("speed", alone=True),
        probe("later", module="later", needs="ch91_probe.probe", seconds=9),
        probe("dies", "die"),
        probe("raises", "raise"),
        *[probe(f"usual {number}") for number in range(4)],
    ]
    monkeypatch.setattr(tour, "STOPS", stops)
    assert tour.tour(tour.Options(device="cpu", jobs=2, out=probes)) == 2
    shown = capsys.readouterr().out
    assert "8 stops on embedded data, 2 at a time" in shown
    assert "6 of 8 stops succeeded" in shown
    (page,) = probes.glob("tour/*/index.html")
    text = page.read_text(encoding="utf-8")
    assert "RuntimeError: a &lt;b&gt;bad&lt;/b&gt; day" in text
    assert "<b>" not in text
    assert "its process has died, exit code 7" in text
    places = [text.index(f"<h3>{stop.title}</h3>") for stop in stops]
    assert places == sorted(places), "the report must have the order of the stops"

    said = [line.rsplit(maxsplit=4) for line in (page.parent / "said.txt").read_text().splitlines()]
    times = {(name, what): float(when) for name, what, _, when, _ in said}
    assert len({process for _, _, process, _, _ in said}) >= 3, "two workers, and a replacement of the dead one"
    assert {threads for *_, threads in said} == {"1"}
    before = max(when for (name, _), when in times.items() if name not in ("speed", "later"))
    assert times["later", "start"] > before, "it needs the results of the others"
    assert times["speed", "start"] > max(before, times["later", "end"]), "throughput must be measured alone"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_all_workers(probes):
    script = (
        "import sys; from companion import tour; from common.cli import one_line_errors; from test_tour import probe\n"
        "tour.STOPS = [probe('one', 'wait'), probe('two', 'wait')]\n"
        f"with one_line_errors(): tour.tour(tour.Options(device='cpu', jobs=2, out=tour.Path({str(probes)!r})))\n"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", probes)))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        cwd=probes,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def said():
        lines = [line for path in probes.glob("tour/*/said.txt") for line in path.read_text().splitlines()]
        return [line.split()[1:3] for line in lines]

    while process.poll() is None and len(said()) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert sorted(what for what, _ in said()) == ["cleaned", "cleaned", "start", "start"]
    for _, number in said():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def test_an_absent_device_is_rejected_in_one_line(tmp_path, monkeypatch):
    def refuse(device):
        raise ValueError(f"--device {device}: absent")

    class Here(tour_workers.Workers):
        def __init__(self, count, device):
            self.workers = []

        def get_ready(self):
            return refuse("cuda:7")

    monkeypatch.setattr(tour, "Workers", Here)
    with pytest.raises(ValueError, match="--device cuda:7: absent"):
        tour.tour(tour.Options(device="cuda:7", out=tmp_path))
    assert not list(tmp_path.glob("tour/*")), "no empty folder may remain"
    with pytest.raises(ValueError, match="cuda:7"):
        tour_visit.get_ready("cuda:7")


def test_the_longest_stops_start_first():
    one, two, three = probe("one", seconds=2), probe("two", seconds=5), probe("three", seconds=1)
    later = probe("later", module="later", needs="ch91_probe.probe", seconds=7)
    assert tour_workers.longest_first([one, two]) == [two, one]
    assert tour_workers.longest_first([one, later, two, three]) == [two, one, three, later]


def test_the_stops_use_embedded_data_and_valid_settings():
    for stop in STOPS:
        config = importlib.import_module(stop.module).Config(**stop.settings, **stop.short)
        assert getattr(config, "data", "its own") in (
            "its own",
            None,
            "embedded",
            "digits",
            "shapes",
            "stories",
            "scenes",
            "planted",
            "pydoc",
            "grammar",
            "curve",
        )
        if stop.needs:
            assert stop.needs in [other.module for other in STOPS if other.chapter <= stop.chapter]


def stop_of(module: str, **settings) -> Stop:
    (stop,) = [stop for stop in STOPS if stop.module == f"ch05_rnn.{module}" and stop.settings == settings]
    return stop


@pytest.mark.parametrize(
    ("stop", "tiny", "limit", "pictures"),
    [
        (
            stop_of("language.language_model", network="transformer"),
            {"embedding_size": 16, "hidden_size": 16, "layers": 1, "steps": 16, "epochs": 1},
            5_000,
            {"curves", "samples"},
        ),
        (
            stop_of("captions.captioning"),
            {"epochs": 1, "feature_size": 8, "hidden_size": 8, "embedding_size": 8},
            64,
            {"curves", "attention"},
        ),
    ],
    ids=["transformer", "captions"],
)
def test_a_stop_compares_with_its_baseline_and_shows_what_is_generated(
    request_here, monkeypatch, stop, tiny, limit, pictures
):
    """With a smaller network and less data than in the tour."""
    monkeypatch.setattr("ch05_rnn.language.language_model.generation_speed", lambda *_, **__: 1.0)
    monkeypatch.setattr("ch05_rnn.language.visualise.report", lambda *_: None)  # further figures
    run = replace(stop.short["run"], limit=limit)
    seen = tour_visit.visit(replace(stop, short=stop.short | tiny | {"run": run}), request_here)
    assert not seen.error, seen.printed
    assert stop.against is not None and isinstance(stop.against[1], str)
    assert seen.result == f"{stop.measure}: {tour_visit.figure(seen.metrics[stop.metric])}"
    assert seen.baseline == f"{stop.against[0]}: {tour_visit.figure(seen.metrics[stop.against[1]])}"
    assert pictures <= {picture.name for picture in seen.pictures}


def test_constant_baselines_are_correct(digits):
    from ch03_autoencoder_rbm.boltzmann.likelihood import base_rates
    from ch03_autoencoder_rbm.preprocessing import fixed_binary, intensities

    train, test = intensities(digits.train.pixels), intensities(digits.test.pixels)
    binary = fixed_binary(digits.test.pixels, "stochastic", torch.device("cpu"))
    logits = base_rates(train).expand_as(binary)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, binary, reduction="none").sum(1).mean()
    assert tour_stops.PIXELS_ALONE[1] == round(-float(loss))
    assert round(float((test - train.mean(0)).square().mean()), 4) == tour_stops.THE_MEAN_IMAGE[1]
    linear = read_json(ROOT / "results" / "ch06" / "shapes-linear.json")["metrics"]["test_accuracy"]["mean"]
    assert round(linear, 3) == tour_stops.A_LINEAR_NETWORK[1]


def test_chapter_9_gets_the_digits_in_three_batches(tmp_path, digits):
    made = tour_stops.digit_batches(tmp_path)
    sizes = {path.stem: path.stat().st_size // 3073 for path in sorted(made["data"].glob("*.bin"))}
    assert sizes["batch-1"] + sizes["batch-2"] == len(digits.train)
    assert sizes["test-1"] == len(digits.test)
    pixels, labels = decode_cifar((made["data"] / "test-1.bin").read_bytes(), "test-1.bin")
    assert labels.tolist() == digits.test.labels.tolist()
    assert (pixels[:, 1, 2:-2, 2:-2] == digits.test.pixels[:, 0].numpy()).all()
    assert (made["data"] / "batches.meta.txt").read_text().split() == list(digits.class_names)
    assert len(list(made["new"].glob("*.png"))) == 6
    assert tour_stops.digit_batches(tmp_path) == made
    assert tour_stops.pipeline_data(tmp_path) == {"data": made["data"]}


def installed_with(lines):
    """Return the names of all packages that these requirements install, with those that they need."""
    found, waiting = set(), [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            needed = map(Requirement, importlib.metadata.requires(name) or [])
        except importlib.metadata.PackageNotFoundError:  # for another system
            continue
        environments = [{"extra": extra} for extra in ("", *extras)]
        waiting += [each for each in needed if not each.marker or any(map(each.marker.evaluate, environments))]
    return {name for name, _ in found}


def test_the_extra_demo_has_the_packages_of_all_stops():
    graph = import_graph()
    modules = {stop.module for stop in STOPS} | {
        "ch10_deploy.inference.models"
    }  # the export stop loads it when it starts
    loaded = set().union(*(nx.descendants(graph, module) | {module} for module in modules))
    names = set()
    for module in loaded:
        path = ROOT.joinpath(*module.split("."))
        for node in ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    origins = importlib.metadata.packages_distributions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["demo"] == ["deep-learning-companion[pipeline,export]"]
    known = installed_with([*project["dependencies"], *extras["pipeline"], *extras["export"]])
    missing = {
        name
        for name in names - sys.stdlib_module_names - {"common", "companion", *CHAPTERS}
        if not {canonicalize_name(origin) for origin in origins[name]} & known
    }
    assert missing == set()


def test_full_tour_ignores_short_settings(request_here):
    stop = Stop(
        "ch03_autoencoder_rbm.digits.autoencoder", "test_mse", None, {"noise": 0.5}, BRIEF, tour_stops.digit_batches
    )
    full = tour_visit.settings_of(stop, Request(True, "cpu", None, request_here.folder))
    assert (full.data, full.noise, full.epochs) == ("auto", 0.5, None)
    assert not list(request_here.folder.iterdir())
    options = tour.Options(full=True)
    assert options.workers(30) == 1, "long programs run one at a time"
    assert tour.Options(full=True, jobs=3).workers(30) == 3
    assert tour.Options().workers(1) == 1


def test_programs_that_choose_their_threads_keep_them(request_here):
    own, none = (
        Stop("ch03_autoencoder_rbm.digits.feedforward", "", short=BRIEF),
        Stop("ch08_vae.autoencoding.vae", "", short=BRIEF),
    )
    for threads, expected in ((1, [1, 1]), (None, [1, None])):
        request = Request(False, "cpu", threads, request_here.folder)
        assert [tour_visit.settings_of(stop, request).run.threads for stop in (own, none)] == expected
    limited = Stop("ch08_vae.autoencoding.vae", "", short={"run": RunOptions(limit=7)})
    assert tour_visit.settings_of(limited, request_here).run.limit == 7


def test_every_chapter_is_visited_and_can_be_chosen(monkeypatch):
    assert {stop.chapter for stop in tour.Options().stops()} == {stop.chapter for stop in STOPS}
    assert {stop.chapter for stop in tour.Options(chapters="3, 7").stops()} == {3, 7}
    for wrong in ("12", "3,x", "0"):
        with pytest.raises(ValueError, match=r"--chapters: unknown chapter .*; choose from 1, 2, 3"):
            tour.Options(chapters=wrong).stops()
    monkeypatch.setattr(sys, "platform", "win32")
    assert {stop.chapter for stop in tour.Options().stops()} == {stop.chapter for stop in STOPS} - {9}


def test_jobs_are_limited():
    with pytest.raises(ValueError, match="--jobs must be between 1 and 64, got 0"):
        tour.Options(jobs=0)


def test_ideas_are_a_few_sentences():
    for package in sorted({stop.module.partition(".")[0] for stop in STOPS}):
        (chapter,) = tour.chapters_of([Visit(Stop(f"{package}.train", ""))])
        assert 1 <= len(re.findall(r"[.?](?= |$)", chapter.idea)) <= 5, chapter.idea
        assert not set("|`<[") & set(chapter.idea), chapter.idea


def test_compared_devices_are_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr("common.benchmark.ROUND_SECONDS", 0.001)
    monkeypatch.setattr("common.benchmark.ROUNDS", 2)
    timings, picture = tour_visit.compare_devices([QUICK[0].module, "ch07_dqn.mazes.q_table"], tmp_path)
    text = report_of([Visit(QUICK[0])], tmp_path, timings=timings, devices_picture=picture)
    assert "steps per second" in text
    assert Page(text).images[-1]["alt"] == "samples per second on every device"
    assert tour_visit.compare_devices(["ch07_dqn.mazes.q_table"], tmp_path) == ([], None)


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another folder with --out"):
        tour.tour(tour.Options(out=tmp_path / "file"))


def test_the_process_that_shows_the_table_does_not_load_torch():
    script = "import sys, tour; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
