"""The tour: one table, one self-contained report, and failures that are counted."""

import html.parser
import importlib
import re

import pytest

import tour
from common import device as devices
from tour_stops import STOPS, Stop

BRIEF = {"data": "digits", "epochs": 2}
QUICK = [
    Stop("ch03_autoencoder_rbm.digits.feedforward", "test_accuracy", ("guessing", 0.1), short=BRIEF),
    Stop(
        "ch03_autoencoder_rbm.digits.autoencoder", "test_mse", ("as it came", "test_input_mse"), {"noise": 0.5}, BRIEF
    ),
    Stop("ch07_dqn.q_table", "path_steps", ("shortest", "shortest_steps")),
]


class Page(html.parser.HTMLParser):
    """Collects what a page refers to."""

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
def report(tmp_path, monkeypatch, capsys):
    def take(stops, failures, **flags):
        monkeypatch.setattr(tour, "STOPS", stops)
        assert tour.tour(tour.Options(device="cpu", out=tmp_path, **flags)) == failures
        (path,) = tmp_path.glob("tour/*/index.html")
        return path.read_text(encoding="utf-8"), capsys.readouterr().out

    return take


def test_report_is_whole_and_asks_for_nothing_from_outside(report):
    text, shown = report(QUICK, failures=0)
    page = Page(text)
    assert len(page.images) >= 8
    for image in page.images:
        assert re.match(r"data:image/(png;base64,iVBOR|gif;base64,R0lGOD)", image["src"])
        assert image["alt"]
    assert "data:image/gif" in text, "the walk through the maze is a film"
    for link in page.links:
        assert link.startswith("data:") or link.removeprefix("#") in page.ids, f"broken or foreign link {link[:60]}"
    assert not re.search(r"https?://|@import|url\(", text)
    for word in ("python -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2", devices.cpu_model()):
        assert word in text
    assert "autoencoder, noise 0.5" in shown
    assert "guessing 0.1" in shown
    assert "Chapter 3: beyond basic networks" in text
    assert "A network that tells digits apart" in text, "the idea is how the chapter's README begins"
    assert "epoch 2" in text, "what a program printed can be read"
    assert "3 of 3 stops went well" in shown
    assert "index.html" in shown


def test_a_failure_is_shown_counted_and_does_not_end_the_tour(report, monkeypatch):
    def explode(config):
        raise RuntimeError("a <b>bad</b> day")

    monkeypatch.setattr("ch03_autoencoder_rbm.digits.feedforward.train", explode)
    text, shown = report(QUICK, failures=1)
    assert "RuntimeError: a &lt;b&gt;bad&lt;/b&gt; day" in text
    assert "failed: RuntimeError" in shown
    assert "test mse" in shown
    assert "2 of 3 stops went well" in shown


def test_the_real_stops_use_embedded_data_and_known_settings():
    for stop in STOPS:
        config = importlib.import_module(stop.module).Config(**stop.settings, **stop.short)
        assert getattr(config, "data", "its own") in (
            "its own",
            None,
            "embedded",
            "digits",
            "shapes",
            "planted",
            "pydoc",
        )


def test_full_tour_leaves_out_what_makes_it_short(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr(
        "ch03_autoencoder_rbm.digits.autoencoder.train", lambda config: taken.append(config) or {"test_mse": 0}
    )
    stop = Stop("ch03_autoencoder_rbm.digits.autoencoder", "test_mse", None, {"noise": 0.5}, BRIEF)
    for full in (True, False):
        tour.visit(stop, tour.Options(full=full, device="cpu"), tmp_path)
    assert [(config.data, config.noise, config.epochs == 2) for config in taken] == [
        ("auto", 0.5, False),
        ("digits", 0.5, True),
    ]


def test_every_chapter_is_visited_and_can_be_chosen():
    assert {stop.chapter for stop in tour.Options().stops()} == {stop.chapter for stop in STOPS}
    assert {stop.chapter for stop in tour.Options(chapters="3, 7").stops()} == {3, 7}
    for wrong in ("12", "3,x", "0"):
        with pytest.raises(ValueError, match=r"--chapters: no chapter .*; there are 1, 2, 3"):
            tour.Options(chapters=wrong).stops()


def test_ideas_are_a_few_sentences():
    for package in sorted({stop.module.partition(".")[0] for stop in STOPS}):
        (chapter,) = tour.chapters_of([tour.Visit(Stop(f"{package}.train", ""), "", "")])
        assert 1 <= len(re.findall(r"[.?](?= |$)", chapter.idea)) <= 5, chapter.idea
        assert not set("|`<[") & set(chapter.idea), chapter.idea


def test_compared_devices_are_in_the_table_and_in_the_report(report, monkeypatch):
    monkeypatch.setattr("common.benchmark.ROUND_SECONDS", 0.001)
    text, shown = report(QUICK[:1], failures=0, compare=True)
    assert "one training step" in shown
    assert "steps a second" in text
    assert Page(text).images[-1]["alt"] == "samples a second on every device"


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another folder with --out"):
        tour.tour(tour.Options(out=tmp_path / "file"))
