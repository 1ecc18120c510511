"""The tour: one table, one self-contained report, and failures that are counted."""

import html.parser
import re

import pytest

import tour
from common import device as devices

QUICK = [
    tour.Stop("ch03_autoencoder_rbm.feedforward", {"data": "digits", "epochs": 2}, "test_accuracy"),
    tour.Stop("ch03_autoencoder_rbm.autoencoder", {"data": "digits", "epochs": 2}, "test_mse"),
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
    def take(stops, failures):
        monkeypatch.setattr(tour, "STOPS", stops)
        assert tour.tour(tour.Options(device="cpu", out=tmp_path)) == failures
        (path,) = tmp_path.glob("tour/*/index.html")
        return path.read_text(encoding="utf-8"), capsys.readouterr().out

    return take


def test_report_is_whole_and_asks_for_nothing_from_outside(report):
    text, shown = report(QUICK, failures=0)
    page = Page(text)
    assert len(page.images) >= 8
    assert all(re.match(r"data:image/png;base64,iVBOR", image["src"]) and image["alt"] for image in page.images)
    for link in page.links:
        assert link.startswith("data:") or link.removeprefix("#") in page.ids, f"broken or foreign link {link[:60]}"
    assert not re.search(r"https?://|@import|url\(", text)
    for word in ("python -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2", devices.cpu_model()):
        assert word in text
    assert "ch03 feedforward" in shown
    assert "2 of 2 stops went well" in shown
    assert "index.html" in shown


def test_a_failure_is_shown_counted_and_does_not_end_the_tour(report, monkeypatch):
    def explode(config):
        raise RuntimeError("a <b>bad</b> day")

    monkeypatch.setattr("ch03_autoencoder_rbm.feedforward.train", explode)
    text, shown = report(QUICK, failures=1)
    assert "RuntimeError: a &lt;b&gt;bad&lt;/b&gt; day" in text
    assert "failed: RuntimeError" in shown
    assert "test mse" in shown
    assert "1 of 2 stops went well" in shown


def test_the_real_stops_use_embedded_data_and_known_settings():
    import importlib

    for stop in tour.STOPS:
        config = importlib.import_module(stop.module).Config(**stop.settings)
        assert getattr(config, "data", "its own") in ("its own", "digits", "shapes", "planted", "pydoc")


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another folder with --out"):
        tour.tour(tour.Options(out=tmp_path / "file"))
