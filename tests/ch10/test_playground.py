"""The playground page, tested in Chromium with a real server and a network trained here."""

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gymnasium
import numpy as np
import pytest
from PIL import Image

from ch03_autoencoder_rbm.digits import feedforward
from ch10_deploy import screenshots
from ch10_deploy.exporting import export
from ch10_deploy.inference.models import NAMES
from common.config import RunOptions
from conftest import REAL_DATA_DIR, ROOT
from make_models import MODELS

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]

PLAYGROUND = ROOT / "ch10_deploy" / "playground"
QUIET = [*screenshots.FLAGS, "--disable-sync", "--no-first-run"]
TABS = ("Draw", "Show", "Walk", "Denoise", "Write", "Ask", "Films", "Maze", "Balance", "Detect", "Segment", "Stylise")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

STROKES = {
    0: [[(50, 15), (35, 22), (27, 50), (34, 78), (50, 86), (66, 78), (74, 50), (66, 22), (50, 15)]],
    1: [[(52, 14), (49, 86)]],
    2: [[(27, 28), (40, 15), (60, 16), (68, 30), (58, 52), (26, 84), (76, 84)]],
    3: [[(30, 18), (58, 14), (68, 28), (45, 47), (70, 62), (60, 84), (28, 82)]],
    4: [[(34, 15), (25, 52), (74, 52)], [(66, 15), (62, 86)]],
    5: [[(70, 15), (36, 15), (32, 46), (60, 46), (72, 62), (58, 85), (28, 82)]],
    6: [[(60, 13), (36, 40), (29, 66), (40, 85), (60, 84), (67, 66), (54, 56), (32, 66)]],
    7: [[(26, 17), (74, 17), (48, 86)]],
    8: [[(62, 22), (46, 14), (35, 28), (64, 66), (54, 86), (36, 76), (40, 58), (64, 34), (62, 22)]],
    9: [[(66, 30), (50, 15), (34, 28), (42, 46), (60, 42), (66, 30), (62, 60), (54, 86)]],
}
"""Strokes of the ten digits in hundredths of the pad, with straight lines instead of curves."""


@pytest.fixture(scope="module")
def on_mnist() -> bool:
    return any((REAL_DATA_DIR / "MNIST" / "raw").glob("train-images-idx3-ubyte*"))


@pytest.fixture
def required(on_mnist) -> int:
    """Required number of correct digits out of ten: all with MNIST, eight with the small embedded set."""
    return 10 if on_mnist else 8


@pytest.fixture(scope="module")
def models(tmp_path_factory, on_mnist) -> Path:
    """The folder of an export, with a network trained on MNIST if available, else on the embedded digits."""
    folder = tmp_path_factory.mktemp("playground")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_OFFLINE", "1")
        patch.setenv("DATA_DIR", str(REAL_DATA_DIR))
        if on_mnist:
            config = feedforward.Config(data="mnist", epochs=5, run=replace(options, limit=15_000))
        else:
            config = feedforward.Config(data="digits", epochs=80, run=options)
        feedforward.train(config)
        export.train(export.Config(models=("digits",), runs=folder, run=options))
    return next(folder.glob("ch10_deploy/export/*/models"))


def start_server(models: Path, *flags: str) -> tuple[subprocess.Popen, str]:
    words = [
        sys.executable,
        "-m",
        "ch10_deploy.serve",
        "--models",
        str(models),
        "--port",
        "0",
        "--no-access-log",
        *flags,
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return process, found[0] + "/"


def stop_server(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def address(models) -> Iterator[str]:
    process, found = start_server(models)
    yield found
    stop_server(process)


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as api:
        found = api.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module")
def contexts(browser):
    """Browser contexts by their settings, shared by the tests, since a new one takes long to create."""
    known = {}

    def context(**settings):
        if repr(settings) not in known:
            known[repr(settings)] = browser.new_context(**settings)
        return known[repr(settings)]

    return context


@pytest.fixture
def visit(contexts, address):
    """Open the page; after the test, check that all requests went to the server and the console has no errors."""
    pages, requests, errors, expected = [], [], [], []

    def open_page(*, expect: str = "", at: str = address, prepare=None, **settings):
        expected.extend([expect] if expect else [])
        page = contexts(**{"viewport": DESKTOP, **settings}).new_page()
        pages.append(page)
        page.on("request", lambda request: requests.append((urlsplit(at).netloc, urlsplit(request.url).netloc)))
        page.begun = page.ended = 0
        page.on("request", lambda _: vars(page).update(begun=page.begun + 1))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda _: vars(page).update(ended=page.ended + 1))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if prepare:
            prepare(page)
        page.goto(at)
        page.wait_for_selector(":is(.work, .absent, .server, dialog):visible")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert requests and all(here == there for here, there in requests)
    assert [text for text in errors if not any(re.search(pattern, text) for pattern in expected)] == []


def draw(page, strokes) -> None:
    """Draw with the mouse."""
    page.locator(".pad").wait_for()
    pad = page.locator(".pad").bounding_box()
    for stroke in strokes:
        places = [(pad["x"] + x / 100 * pad["width"], pad["y"] + y / 100 * pad["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def wait_until(page, condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        page.wait_for_timeout(5)
    raise AssertionError("the condition was not met in time")


def settle(page) -> None:
    """Wait until two animation frames and 20 ms have passed without a started or running request."""
    quiet = (
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 20))))"
    )

    def is_quiet() -> bool:
        before = page.begun
        page.evaluate(quiet)
        return page.begun == before == page.ended

    wait_until(page, is_quiet)


def guess_of(page) -> str:
    settle(page)
    return page.locator("#digits .guess strong").text_content()


# Drawing


def test_drawn_digits_are_recognised(visit, required):
    page = visit()
    guesses = {}
    for digit, strokes in STROKES.items():
        draw(page, strokes)
        guesses[digit] = guess_of(page)
        page.get_by_role("button", name="Clear").click()
        assert guess_of(page) == ""
    right = sum(guess == str(digit) for digit, guess in guesses.items())
    assert right >= required, guesses


def test_example_digits_are_recognised(visit, required):
    page = visit(reduced_motion="reduce")
    guesses = []
    for digit in range(10):
        page.get_by_role("button", name=f"Digit {digit}").click()
        guesses.append(guess_of(page))
    assert sum(guess == str(digit) for digit, guess in enumerate(guesses)) >= required, guesses


def test_the_page_shows_the_probabilities_of_the_server(visit, address):
    page = visit()
    with page.expect_response("**/predict") as seen:
        draw(page, [STROKES[7][0][:1]])
    answer = seen.value.json()
    settle(page)
    assert page.locator("#digits .bars li.first > span").first.text_content() == answer["label"]
    shares = [float(text.strip("<> %")) for text in page.locator("#digits .bars li > :last-child").all_text_contents()]
    assert shares == pytest.approx([100 * share for share in answer["probabilities"]], abs=0.11)
    tracks = page.locator("#digits .track").evaluate_all(
        "all => all.map((one) => Number(one.style.getPropertyValue('--share')))"
    )
    assert tracks == answer["probabilities"]
    script = "async (shares) => shares.map((await import('/playground/elements.js')).percent)"
    assert page.evaluate(script, [0, 0.0004, 0.0006, 0.5, 0.9994, 0.9996, 1]) == [
        *("< 0.1 %", "< 0.1 %", "0.1 %", "50.0 %", "99.9 %", "> 99.9 %", "> 99.9 %")
    ]


def inked(strokes: list[np.ndarray], width: float = 2.6) -> np.ndarray:
    """(points, 2) in pixels -> (28, 28) grey levels of the segments of all strokes"""
    starts = np.concatenate([np.concatenate([stroke[:1], stroke[:-1]]) for stroke in strokes])
    along = np.concatenate(strokes) - starts
    centres = np.stack(np.meshgrid(np.arange(28) + 0.5, np.arange(28) + 0.5), axis=-1)[:, :, None]
    length = np.maximum((along**2).sum(-1), 1e-300)
    share = np.clip(((centres - starts) * along).sum(-1) / length, 0, 1)
    away = np.linalg.norm(centres - starts - share[..., None] * along, axis=-1).min(-1)
    return np.clip(width / 2 + 0.5 - away, 0, 1) * 255


def as_mnist(strokes: list[np.ndarray]) -> np.ndarray:
    """Reference: scale the bounding box to 20 pixels, move the centre of mass to the middle of pixel 14."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (20 - 2.6) / max(*(high - low), 0.1)
    placed = [(stroke - (low + high) / 2) * scale for stroke in strokes]
    ink = np.round(inked([stroke + 14 for stroke in placed]))
    mass = np.array([(ink.sum(0) @ (np.arange(28) + 0.5)), (ink.sum(1) @ (np.arange(28) + 0.5))]) / ink.sum()
    middle = np.clip(14 + 14.5 - mass, 10, 18)
    return inked([stroke + middle for stroke in placed])


def in_page(page, cases: list[list[np.ndarray]]) -> np.ndarray:
    """Convert strokes with the page's own module."""
    script = """async (cases) => {
        const { asMnist, rows } = await import("/playground/mnist.js");
        return cases.map((strokes) => rows(asMnist(strokes)));
    }"""
    return np.array(page.evaluate(script, [[stroke.tolist() for stroke in strokes] for strokes in cases]))


def test_centring_equals_mnist(visit):
    rng = np.random.default_rng(0)
    walks = [[rng.random((rng.integers(1, 9), 2)) for _ in range(rng.integers(1, 4))] for _ in range(25)]
    hands = [[np.array(stroke) / 100 for stroke in strokes] for strokes in STROKES.values()]
    corner = [
        np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 0.02), (0.0, 0.02), (0.0, 1.0)])
    ]  # its centre of mass is far from the middle of its box
    cases = [*walks, *hands, corner, [np.array([(0.2, 0.9)])]]
    pictures = in_page(visit(), cases)
    assert pictures.shape == (len(cases), 28, 28)
    for picture, strokes in zip(pictures, cases, strict=True):
        np.testing.assert_allclose(picture, as_mnist(strokes), atol=0.51)


def test_position_and_size_of_a_drawing_do_not_matter(visit):
    strokes = [np.array(stroke) / 100 for stroke in STROKES[3]]
    large, small, dot = in_page(
        visit(), [strokes, [0.3 * stroke + 0.6 for stroke in strokes], [np.array([(0.9, 0.1)])]]
    )
    np.testing.assert_allclose(small, large, atol=1)
    rows, columns = np.nonzero(large > 127)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    for picture in (large, dot):
        places = np.arange(28) + 0.5
        assert (picture.sum(0) @ places / picture.sum(), picture.sum(1) @ places / picture.sum()) == pytest.approx(
            (14.5, 14.5), abs=0.1
        )
    assert 4 <= (dot > 127).sum() <= 9


def test_a_stroke_undone_while_it_is_drawn_stays_removed(visit):
    page = visit()
    draw(page, STROKES[1])
    pad = page.locator(".pad").bounding_box()
    page.mouse.move(pad["x"] + 20, pad["y"] + 20)
    page.mouse.down()
    page.mouse.move(pad["x"] + 40, pad["y"] + 20)
    page.keyboard.press("Backspace")
    page.mouse.move(pad["x"] + 60, pad["y"] + 60)
    page.mouse.up()
    assert guess_of(page) == "1"
    assert page.locator(".strokes polyline").count() == 1


def test_the_preview_shows_the_pixels_that_are_sent(visit):
    page = visit()
    with page.expect_request("**/predict") as seen:
        draw(page, [[(30, 30)]])
    sent = seen.value.post_data_json["pixels"]
    shown = page.locator(".preview canvas").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    assert np.array(shown).reshape(28, 28, 4)[..., 3].tolist() == sent


def test_requests_are_sent_one_at_a_time_ending_with_the_last_drawing(visit):
    running, most, sent = 0, 0, []

    def slowly(route):
        nonlocal running, most
        running += 1
        most = max(most, running)
        sent.append(route.request.post_data_json["pixels"])
        page.wait_for_timeout(30)
        running -= 1
        route.continue_()

    page = visit(prepare=lambda page: page.route("**/predict", slowly))
    draw(page, STROKES[3])
    settle(page)
    assert 1 < len(sent) < 20
    assert most == 1
    last = page.locator(".preview canvas").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    assert sent[-1] == np.array(last).reshape(28, 28, 4)[..., 3].tolist()


def test_clear_cancels_the_request(visit):
    held = []
    page = visit(prepare=lambda page: page.route("**/predict", lambda route: held.append(route)))
    draw(page, STROKES[1])
    with page.expect_event("requestfailed") as failed:
        page.get_by_role("button", name="Clear").click()
    assert failed.value.failure == "net::ERR_ABORTED"
    assert len(held) == 1
    settle(page)
    assert page.locator(".strokes polyline").count() == 0
    assert page.locator("#digits .guess strong").text_content() == ""
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_only_the_first_finger_draws(visit):
    page = visit(viewport=PHONE, has_touch=True)
    pad = page.locator(".pad").bounding_box()
    touch = page.context.new_cdp_session(page)

    def finger(event: str, *places: tuple[float, float]) -> None:
        points = [{"x": pad["x"] + x * pad["width"], "y": pad["y"] + y * pad["height"]} for x, y in places]
        points = [{**point, "id": number} for number, point in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": points})

    finger("touchStart", (0.5, 0.9))
    for y in (0.7, 0.5, 0.3):
        finger("touchMove", (0.5, y))
    finger("touchStart", (0.5, 0.3), (0.9, 0.9))
    finger("touchMove", (0.5, 0.1), (0.9, 0.1))
    finger("touchEnd")
    assert guess_of(page) == "1"
    assert page.locator(".strokes polyline").count() == 1
    page.wait_for_timeout(100)
    assert page.evaluate("scrollY") == 0  # the page must not scroll


# Keyboard


def test_a_digit_can_be_drawn_with_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")  # the selected tab
    page.keyboard.press("Tab")
    assert page.locator(".pad").evaluate("pad => pad === document.activeElement && pad.matches(':focus-visible')")
    assert page.locator(".pad").evaluate("pad => getComputedStyle(pad).outlineStyle") == "solid"
    for key, times in (("ArrowUp", 12), (" ", 1), ("ArrowDown", 24), (" ", 1), ("ArrowLeft", 3)):
        for _ in range(times):
            page.keyboard.press(key)
    assert guess_of(page) == "1"
    points = page.locator(".strokes polyline").get_attribute("points").split()
    assert len(points) == 25 and points[0] == "0.5,0.125" and points[-1] == "0.5,0.875"
    page.keyboard.press("Backspace")
    assert guess_of(page) == ""
    page.keyboard.press(" ")
    page.keyboard.down("ArrowDown")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".strokes polyline").get_attribute("points").split()[-1] == "0.4375,0.9375"


def test_tabs_are_selected_by_keyboard_and_address(visit, address):
    page = visit(at=address + "#films", prepare=None)
    assert page.get_by_role("tab", selected=True).text_content() == "Films"
    page.get_by_role("tab", name="Films").focus()
    for key, name in (("ArrowRight", "Maze"), ("End", TABS[-1]), ("ArrowRight", "Draw"), ("Home", "Draw")):
        page.keyboard.press(key)
        chosen = page.get_by_role("tab", selected=True)
        assert chosen.text_content() == name
        assert chosen.evaluate("tab => tab === document.activeElement")
        assert page.locator("[role=tab][tabindex='0']").all_text_contents() == [name]
        assert page.get_by_role("tabpanel").count() == 1
        assert page.get_by_role("tabpanel").get_attribute("aria-labelledby") == chosen.get_attribute("id")
    assert page.url.endswith("#digits")


# The other networks, with responses by the test


def card(name: str) -> dict:
    data = {"name": "invented", "embedded": True, "sha256": "0"}
    return {"name": name, "chapter": "ch00", "program": name, "data": data, "metrics": {"test_loss": 1.23456}}


def square(level: float) -> list[list[int]]:
    return [[round(255 * level)] * 28 for _ in range(28)]


@pytest.fixture
def answered(visit):
    """Return a function that opens a tab of a page whose requests are answered here; it returns page and requests."""
    requests = []

    def answer(path: str, body: dict, query: str) -> object:
        if path == "models":
            return [card(name) for name in NAMES]
        requests.append((path, body or query))
        if path == "predict":
            share = np.ravel(body["pixels"])[0] / 255
            return {"classes": ["cat", "dog"], "label": "dog", "probabilities": [1 - share, share]}
        if path == "decode":
            x, y = body["latent"]
            return {"pixels": square((x + 3) / 12 + (y + 3) / 12)}
        if path == "denoise":
            steps = body["steps"]
            levels = [step / steps for step in range(steps + 1)]
            film = {"images": [square(level) for level in levels], "predicted": [square(level) for level in levels[1:]]}
            return film | {"times": [100 * (steps - step) for step in range(steps + 1)]}
        if path == "ask":
            if "zebra" in body["story"]:
                return None
            statements = body["story"].split("\n")
            attention = [[0.25, 1 - place] for place in range(len(statements))]
            return {"answer": "garden", "probability": 0.75, "statements": statements, "attention": attention}
        if path == "films":
            return {"films": ["Alpha (1999)", "Beta (2001)", "Gamma (2002)"]}
        if path == "recommend":
            because = [title for title in body["likes"] if title != "Beta (2001)"]
            return {"matched": [], "films": [{"title": "Omega (1990)", "rating": 4.26, "because": because}]}
        tiles = [[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]]
        path_walked = [[1, 0], [1, 1], [1, 2], [2, 2], [2, 3]][: 5 - body["seed"] % 2]
        solved = body["seed"] % 2 == 0
        maze = {"tiles": tiles, "start": [1, 0], "goal": [2, 3], "shortest_steps": 4}
        return maze | {"path": path_walked, "solved": solved}

    def fulfil(route):
        url = urlsplit(route.request.url)
        found = answer(url.path[1:], route.request.post_data_json, url.query)
        refused = {"detail": "story: the network was trained on stories without the words 'zebra'", "field": "story"}
        route.fulfill(json=found or refused, status=200 if found else 422)

    def prepare(page):
        for path in ("models", "predict", "decode", "denoise", "ask", "films?*", "recommend", "maze"):
            page.route(f"**/{path}", fulfil)

    def open_tab(name: str, **settings):
        page = visit(prepare=prepare, **settings)
        page.get_by_role("tab", name=name).click()
        assert page.get_by_role("tabpanel").locator(".source").text_content().endswith("test loss 1.235.")
        return page, requests

    return open_tab


def picture_file(width: int, height: int) -> dict:
    """Encode an image whose central square is red above and blue below, with green on both sides."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 1] = 255
    left, top, edge = (width - height) // 2, 0, height
    pixels[:, left : left + edge] = (0, 0, 255)
    pixels[top : height // 2, left : left + edge] = (204, 0, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}


def test_an_image_is_cropped_to_its_central_square_and_scaled(answered):
    page, requests = answered("Show")
    page.locator("#pictures").get_by_label("Picture").set_input_files(picture_file(120, 64))
    playwright_api.expect(page.locator("#pictures .guess strong")).to_have_text("dog")
    ((path, body),) = requests
    pixels = np.array(body["pixels"])
    assert (path, pixels.shape) == ("predict", (32, 32, 3))
    assert (pixels[:15] == (204, 0, 0)).all()
    assert (pixels[17:] == (0, 0, 255)).all()
    assert page.locator("#pictures .bars li").all_text_contents() == ["cat20.0 %", "dog80.0 %"]
    assert page.locator("#pictures .bars .first").text_content() == "dog80.0 %"
    seen = page.locator("#pictures canvas").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(5, 5, 1, 1).data)"
    )
    assert seen == [204, 0, 0, 255]

    page.locator("#pictures").get_by_label("Picture").set_input_files(
        {"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"}
    )
    playwright_api.expect(page.locator("#pictures .notice")).to_contain_text("cannot read that file as a picture")
    playwright_api.expect(page.locator("#pictures .guess strong")).to_be_empty()
    assert len(requests) == 1
    page.locator("#pictures").get_by_label("Picture").set_input_files(picture_file(32, 32))
    playwright_api.expect(page.locator("#pictures .guess strong")).to_have_text("dog")
    assert page.locator("#pictures .notice").is_hidden()
    assert page.locator("#pictures .bars li").count() == 2


def test_the_marker_moves_by_keys_sliders_and_pointer(answered):
    page, requests = answered("Walk")
    wait_until(page, lambda: len(requests) == 1 + 13 * 13)
    settle(page)
    tiles = [body["latent"] for path, body in requests if path == "decode"][1:]
    assert len(tiles) == 13 * 13 and np.hypot(*tiles[0]) == 0 and max(np.hypot(*tile) for tile in tiles) < 3 * 2**0.5
    levels = page.locator(".plane canvas").evaluate(
        "canvas => [[14, 14], [350, 14]].map(([x, y]) => canvas.getContext('2d').getImageData(x, y, 1, 1).data[3])"
    )
    reach = 6 * 6 / 13
    expected = [255 * (6 - reach + reach) / 12, 255 * (6 + reach + reach) / 12]
    assert levels == pytest.approx(expected, abs=1.01)

    plane = page.locator(".plane")
    plane.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    settle(page)
    assert requests[-1] == ("decode", {"latent": [-0.3, 0.1]})
    assert page.get_by_label("First number").input_value() == "-0.3"
    assert page.locator("#plane-place").text_content() == "(-0.30, 0.10)"
    for _ in range(9):
        page.keyboard.press("Shift+ArrowUp")
    settle(page)
    assert requests[-1][1]["latent"] == [-0.3, 3]
    drawn = page.locator("#decoder .drawing canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(5, 5, 1, 1).data[3]"
    )
    assert drawn == round(255 * (2.7 + 6) / 12)
    page.get_by_label("Second number").fill("-1")
    settle(page)
    assert requests[-1][1]["latent"] == [-0.3, -1]
    box = plane.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.75)
    settle(page)
    assert requests[-1][1]["latent"] == pytest.approx([1.5, -1.5], abs=0.03)
    page.get_by_role("button", name="Wander").click()
    wait_until(page, lambda: requests[-1][1]["latent"] != pytest.approx([1.5, -1.5], abs=0.03))
    assert page.get_by_role("button", name="Wander").get_attribute("aria-pressed") == "true"
    plane.focus()
    page.keyboard.press("ArrowUp")
    assert page.get_by_role("button", name="Wander").get_attribute("aria-pressed") == "false"


def test_the_denoising_of_a_digit_is_played_and_can_be_inspected(answered):
    page, requests = answered("Denoise")
    panel = page.locator("#diffusion")

    def level(name: str) -> int:
        return panel.locator(f".{name}").evaluate("canvas => canvas.getContext('2d').getImageData(5, 5, 1, 1).data[3]")

    step = panel.get_by_label("Step", exact=False).first
    wait_until(page, lambda: step.input_value() == "20")
    assert requests == [("denoise", {"digit": 7, "guidance": 2, "steps": 20, "seed": 0})]
    assert (level("state"), level("prediction")) == (255, 255)
    step.fill("5")
    assert (level("state"), level("prediction")) == (round(255 * 0.25), round(255 * 0.3))
    assert step.get_attribute("aria-valuetext") == "5 of 20, t = 1500"
    panel.get_by_label("Digit").select_option("3")
    wait_until(page, lambda: step.input_value() == "20")
    panel.get_by_label("Guidance").fill("4.5")
    panel.get_by_label("Number of steps").fill("3")
    wait_until(page, lambda: step.input_value() == "3")
    assert requests[-1] == ("denoise", {"digit": 3, "guidance": 4.5, "steps": 3, "seed": 0})
    assert panel.locator(".value").all_text_contents() == ["3 of 3, t = 0", "4.5", "3"]
    panel.get_by_role("button", name="Other noise").click()
    settle(page)
    assert requests[-1][1]["seed"] != 0
    wait_until(page, lambda: step.input_value() == "3")
    panel.get_by_role("button", name="Play").click()
    assert step.input_value() != "3"
    wait_until(page, lambda: step.input_value() == "3")
    playwright_api.expect(panel.locator(".spoken")).to_have_text("The digit 3 in 3 steps.")


def test_questions_about_a_story_show_what_each_hop_reads(answered):
    page, requests = answered("Ask", expect="422")
    guess, rows = page.locator("#stories .guess"), page.locator("#stories tbody tr")
    playwright_api.expect(guess).to_have_text("gardenProbability 75.0 %.")
    first = {"story": "Mary took the milk.\nJohn went to the office.\nMary went to the garden."}
    assert requests == [("ask", first | {"question": "Where is the milk?"})]
    assert page.locator("#stories thead th").all_text_contents() == ["Statement", "Hop 1", "Hop 2"]
    assert rows.all_text_contents()[0] == "Mary took the milk.25 %100 %"
    shares = (
        rows.nth(0).locator("td").evaluate_all("cells => cells.map(cell => cell.style.getPropertyValue('--share'))")
    )
    assert shares == ["0.25", "1"]
    page.get_by_label("Story, one sentence per statement").fill("A zebra ran.")
    question = page.get_by_label("Question")
    question.fill("Who ran?")
    question.press("Enter")
    playwright_api.expect(page.locator("#stories .notice")).to_contain_text("without the words 'zebra'")
    assert requests[-1] == ("ask", {"story": "A zebra ran.", "question": "Who ran?"})
    assert page.locator("#stories .reading").is_hidden() and page.locator("#stories .guess strong").text_content() == ""
    page.get_by_role("button", name="Another story").click()
    playwright_api.expect(guess).to_contain_text("garden")
    assert page.locator("#stories .notice").is_hidden()
    assert requests[-1][1]["question"] == question.input_value() == "Where is John?"


def test_films_are_added_and_removed_by_keyboard(answered):
    page, requests = answered("Films")
    box = page.get_by_role("combobox", name="Films you like")
    box.focus()
    page.keyboard.type("a")
    options = page.get_by_role("option")
    playwright_api.expect(options).to_have_count(3)
    assert box.get_attribute("aria-expanded") == "true" and box.get_attribute("aria-activedescendant") is None
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    marked = page.get_by_role("option", selected=True)
    assert marked.text_content() == "Beta (2001)"
    assert box.get_attribute("aria-activedescendant") == marked.get_attribute("id")
    page.keyboard.press("Enter")
    playwright_api.expect(options).to_have_count(0)
    assert box.get_attribute("aria-expanded") == "false" and box.input_value() == ""
    page.keyboard.type("a")
    playwright_api.expect(options).to_have_count(2)  # chosen films are not suggested again
    page.keyboard.press("ArrowUp")
    assert page.get_by_role("option", selected=True).text_content() == "Gamma (2002)"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    disliked = page.get_by_role("combobox", name="Films you do not like")
    disliked.focus()
    page.keyboard.type("g")
    playwright_api.expect(options).to_have_count(1)
    page.keyboard.press("Escape")
    playwright_api.expect(options).to_have_count(0)
    assert disliked.input_value() == "g"
    page.keyboard.press("ArrowDown")
    playwright_api.expect(options).to_have_count(1)
    page.keyboard.press("Enter")
    settle(page)
    wish = {"likes": ["Beta (2001)", "Alpha (1999)"], "dislikes": ["Gamma (2002)"], "top": 10}
    assert requests[-1] == ("recommend", wish)
    row = page.locator(".suggestions li")
    assert row.text_content() == "Omega (1990)4.3 ★because of Alpha (1999)"
    page.get_by_role("button", name="Remove Beta (2001)").focus()
    for title in ("Alpha (1999)", None):
        page.keyboard.press("Enter")
        settle(page)
        label = f"Remove {title}" if title else None
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
    assert page.evaluate("document.activeElement.id") == "likes-input"
    page.get_by_role("button", name="Remove Gamma (2002)").click()
    disliked.click()  # the empty field suggests the films with the most ratings
    playwright_api.expect(options).to_have_count(3)
    assert requests[-1] == ("films", "query=&limit=8")
    options.first.click()
    page.get_by_role("button", name="Remove Alpha (1999)").click()
    assert page.locator(".suggestions li").count() == 0
    assert page.locator(".empty").is_visible()


def test_the_path_through_a_maze_is_animated_and_its_result_shown(answered):
    page, requests = answered("Maze")
    agent, result = page.locator(".agent"), page.locator(".result")
    page.get_by_label("Speed").fill("1")
    page.get_by_label("Maze number").fill("8")
    page.keyboard.press("Enter")  # while the first path is still animated
    wait_until(page, lambda: len(page.locator(".trail").get_attribute("d") or "") > 20)
    settle(page)
    assert requests == [("maze", {"seed": 7}), ("maze", {"seed": 8})]
    assert result.text_content() == "A maze of 4 by 4 tiles."
    page.get_by_role("button", name="Pause").click()
    place = float(agent.get_attribute("cx"))
    page.wait_for_timeout(100)
    assert 0.5 <= place == float(agent.get_attribute("cx")) < 2.5
    page.get_by_role("button", name="Walk").click()
    page.get_by_label("Speed").fill("60")
    playwright_api.expect(result).to_have_text("Solved in 4 steps: a shortest path.")
    assert (agent.get_attribute("cx"), agent.get_attribute("cy")) == ("3.5", "2.5")
    assert page.locator(".trail").get_attribute("d").startswith("M0.5 1.5L1.5 1.5L2.5 1.5L2.5 2.5L3.5 2.5")
    floor = page.locator(".floor").get_attribute("d")
    assert floor == "M0.5 1.5h1M1.5 1.5h1M2.5 1.5h0M2.5 1.5v1M2.5 2.5h1M3.5 2.5h0"
    page.get_by_role("button", name="Another maze").click()
    settle(page)
    assert requests[-1][1]["seed"] == int(page.get_by_label("Maze number").input_value())
    page.get_by_label("Maze number").fill("9")
    page.keyboard.press("Enter")
    playwright_api.expect(result).to_have_text("Stuck after 3 steps; the shortest path takes 4.")


# A cart with a pole


@pytest.fixture
def balancing(visit):
    """Return a function that opens the tab, with changes of cartpole.js; a linear controller answers its requests.

    It returns the page, and a list of the agent, the state and the action of each answer.
    """
    decided = []

    def balance(route):
        body = route.request.post_data_json
        ((x, v, theta, omega),) = body["states"]
        action = int(0.05 * x + 0.1 * v + theta + 0.3 * omega > 0)
        decided.append((body["agent"], body["states"][0], action))
        output = {"probabilities": [0.25, 0.75]} if body["agent"] == "ppo" else {"values": [40.0, 30.0]}
        decision = {"action": action, **output}
        route.fulfill(json={"model": body["agent"], "actions": ["left", "right"], "decisions": [decision]})

    def open_tab(changes=(), **settings):
        module = (PLAYGROUND / "cartpole.js").read_text(encoding="utf-8")
        for old, new in changes:
            assert old in module
            module = module.replace(old, new)

        def prepare(page):
            page.route("**/models", lambda route: route.fulfill(json=[card("ppo"), card("dqn")]))
            page.route("**/balance", balance)
            page.route("**/cartpole.js", lambda route: route.fulfill(body=module, content_type="text/javascript"))

        page = visit(prepare=prepare, **settings)
        page.get_by_role("tab", name="Balance").click()
        page.get_by_label("Steps per second").fill("100")
        return page, decided

    return open_tab


def steps_of(page) -> int:
    return int(page.locator("#balance .steps").text_content().split()[0])


def shares_of(page) -> list[float]:
    """Return the lengths of the bars."""
    script = "all => all.map((one) => Number(one.style.getPropertyValue('--share')))"
    return page.locator("#balance .track").evaluate_all(script)


def transform_of(page, part: str) -> tuple[str, float]:
    """Return the name and the number of the transformation of a part of the drawing."""
    name, _, number = page.locator(f".cartpole {part}").get_attribute("transform").partition("(")
    return name, float(number.removesuffix(")"))


def transition(state: list[float], force: float) -> list[float]:
    """Take one step of gymnasium's CartPole-v1 with any force."""
    environment: Any = gymnasium.make("CartPole-v1").unwrapped
    environment.state, environment.force_mag = np.array(state), force
    environment.step(1)
    return environment.state.tolist()


def test_an_agent_balances_a_pole_and_the_user_pushes_the_cart(balancing):
    """All states that the page sends are those of gymnasium, except that a push adds to one force."""
    page, decided = balancing()
    scene = page.locator(".cartpole")
    page.wait_for_timeout(200)
    assert steps_of(page) == 0 and decided == [], "nothing moves before the button is pressed"
    page.get_by_role("button", name="Start").click()
    seen = """arrow => {
        window.classes = [];
        const noted = new MutationObserver(() => window.classes.push(arrow.getAttribute("class")));
        noted.observe(arrow, { attributes: true });
    }"""
    scene.locator(".push").evaluate(seen)  # the arrow may have disappeared when the test looks
    pushes = {"left": (page.get_by_role("button", name="Push left").click, -30)}
    pushes["right"] = (lambda: page.locator(".cartpole").press("ArrowRight"), 30)
    for direction, (push, _) in pushes.items():
        before = steps_of(page)
        wait_until(page, lambda before=before: steps_of(page) >= before + 15)
        push()
        assert scene.locator(".push").get_attribute("transform") == f"scale({-1 if direction == 'left' else 1} 1)"
        wait_until(page, lambda: page.evaluate("window.classes.splice(0)").count("push shown") > 0)
    playwright_api.expect(scene.locator(".push")).to_have_attribute("class", "push")
    wait_until(page, lambda: steps_of(page) >= 60)
    page.get_by_role("button", name="Pause").click()
    count = steps_of(page)
    page.wait_for_timeout(100)
    assert steps_of(page) == count and not page.locator("#balance .notice").is_visible()
    drawn = [transform_of(page, ".cart"), transform_of(page, ".pole")]
    assert page.locator("#balance .bars li").all_text_contents() == ["left25.0 %", "right75.0 %"]
    assert page.locator("#balance .bars .first").text_content() == "right75.0 %"
    assert shares_of(page) == [0.25, 0.75]
    assert page.locator("#balance .best").text_content() == f"PPO{count} steps"
    page.get_by_role("button", name="Continue").click()
    wait_until(page, lambda: steps_of(page) > count)
    found = []
    for (agent, state, action), (_, after, _) in itertools.pairwise(decided[: count + 1]):
        assert agent == "ppo"
        force = 10 if action else -10
        extra = [more for more in (0, -30, 30) if transition(state, force + more) == pytest.approx(after, abs=1e-12)]
        assert len(extra) == 1
        found += [more for more in extra if more]
    assert found == [-30, 30]
    x, _, theta, _ = decided[count][1]
    assert drawn == [("translate", x), ("rotate", pytest.approx(np.degrees(theta)))]
    page.get_by_role("tab", name="Maze").click()
    page.wait_for_timeout(100)
    count = len(decided)
    page.wait_for_timeout(200)
    assert len(decided) == count, "no requests while another tab is open"
    page.get_by_role("tab", name="Balance").click()
    assert page.get_by_role("button", name="Continue").is_visible()


def test_an_episode_is_truncated_and_agents_are_compared(balancing):
    page, decided = balancing([("MAX_STEPS = 500", "MAX_STEPS = 12")], reduced_motion="reduce")
    result, best = page.locator("#balance .ending"), page.locator("#balance .best li")
    assert page.locator("#balance .steps").text_content() == "0 of 12 steps"
    assert page.locator("#balance .none").is_visible()
    page.get_by_role("button", name="Start").click()
    playwright_api.expect(result).to_have_text("Balanced for 12 steps: the episode is complete.")
    assert (steps_of(page), len(decided)) == (12, 12)
    page.get_by_label("Agent").select_option("Deep Q-network")
    assert page.locator("#balance .source").text_content().startswith("ch00.dqn, trained on invented")
    assert steps_of(page) == 0 and result.text_content() == ""
    page.get_by_label("Steps per second").fill("5")
    page.locator(".cartpole").press(" ")
    playwright_api.expect(page.locator("#balance .bars .first")).to_have_text("left40.00")
    assert page.locator("#balance h3").first.text_content() == "Value of each action"
    assert shares_of(page) == [1, 0.75]
    page.locator(".cartpole").press(" ")
    assert [agent for agent, _, _ in decided[12:]] == ["dqn"] * len(decided[12:])
    assert best.all_text_contents() == ["PPO12 steps", f"Deep Q-network{steps_of(page)} steps"]
    page.get_by_label("Agent").select_option("PPO")
    page.get_by_label("Steps per second").fill("100")
    page.get_by_role("button", name="Start").click()
    playwright_api.expect(result).to_contain_text("complete")
    first = decided[-12][1]
    page.get_by_role("button", name="Restart").click()
    playwright_api.expect(result).to_contain_text("complete")
    assert first != decided[-12][1] and max(map(abs, decided[-12][1])) <= 0.05, "every episode has its own first state"
    page.get_by_label("Steps per second").fill("5")
    page.get_by_role("button", name="Restart").click()
    wait_until(page, lambda: 0 < steps_of(page) < 12)
    assert best.nth(0).text_content() == "PPO12 steps"


def test_the_user_or_random_actions_can_push_the_cart(balancing):
    page, decided = balancing()
    page.get_by_label("Agent").select_option("Yourself")
    assert page.locator("#balance .source").text_content() == "" and page.locator("#balance .output").is_hidden()
    scene, result = page.locator(".cartpole"), page.locator("#balance .ending")
    for key, sign in (("ArrowLeft", -1), ("ArrowRight", 1)):
        scene.press(key)
        page.locator("#balance .toggle").click()
        playwright_api.expect(result).to_have_text(re.compile(r"^The pole fell after (8|9|10|11) steps\.$"))
        assert np.sign(transform_of(page, ".cart")[1]) == sign, (
            "the cart is pushed in this direction until the pole falls"
        )
        assert scene.locator(".push").get_attribute("class") == "push shown"
    page.get_by_label("Agent").select_option("Random actions")
    lengths = set()
    for _ in range(4):
        page.locator("#balance .toggle").click()
        playwright_api.expect(page.get_by_role("button", name="Restart")).to_be_visible()
        lengths.add(result.text_content())
    assert len(lengths) > 1 and decided == []
    assert page.locator("#balance .best span").all_text_contents()[::2] == ["Yourself", "Random actions"]


def test_a_cart_that_leaves_the_track_ends_the_episode(balancing):
    page, _ = balancing([("MAX_ANGLE = (12", "MAX_ANGLE = (1200")])
    page.get_by_label("Agent").select_option("Yourself")
    page.get_by_role("button", name="Push left").click()
    page.get_by_label("Steps per second").fill("10")
    page.get_by_role("button", name="Start").click()
    wait_until(page, lambda: steps_of(page) > 0)
    page.get_by_role("button", name="Pause").click()
    count = steps_of(page)
    page.wait_for_timeout(250)
    assert steps_of(page) == count
    page.get_by_label("Steps per second").fill("100")
    page.get_by_role("button", name="Continue").click()
    result = page.locator("#balance .ending")
    playwright_api.expect(result).to_have_text(re.compile(r"^The cart left the track after \d\d steps\.$"))
    assert -2.6 < transform_of(page, ".cart")[1] < -2.4


def test_a_slow_or_missing_server_is_reported_and_the_episode_can_be_continued(balancing):
    page, _ = balancing(expect="ERR_CONNECTION_REFUSED")
    notice, toggle = page.locator("#balance .notice"), page.locator("#balance .toggle")

    held = []

    def slowly(route):
        page.wait_for_timeout(150)
        route.fallback()

    def disconnected(route):
        route.abort("connectionrefused")

    def hold(route):
        held.append(route)

    page.route("**/balance", slowly)
    toggle.click()
    playwright_api.expect(notice).to_have_text(
        "The server answers slowly: the simulation does not reach 100 steps per second."
    )
    assert steps_of(page) > 0
    page.unroute("**/balance", slowly)
    page.get_by_label("Steps per second").fill("5")
    playwright_api.expect(notice).to_be_hidden()
    page.get_by_label("Steps per second").fill("100")

    page.route("**/balance", disconnected)
    playwright_api.expect(notice).to_have_text("The server does not answer. Start it again, then retry.")
    count = steps_of(page)
    assert toggle.text_content() == "Continue" and count > 0
    page.unroute("**/balance", disconnected)
    page.route("**/balance", hold)
    toggle.click()
    playwright_api.expect(notice).to_have_text("Waiting for the server …")
    assert steps_of(page) == count
    toggle.click()
    assert notice.is_hidden() and toggle.text_content() == "Continue" and len(held) == 1
    page.unroute("**/balance", hold)
    toggle.click()
    wait_until(page, lambda: steps_of(page) > count)
    assert notice.is_hidden()


def test_an_agent_that_the_server_does_not_have_cannot_be_chosen(visit):
    def prepare(page):
        page.route("**/models", lambda route: route.fulfill(json=[card("dqn")]))

    page = visit(prepare=prepare)
    page.get_by_role("tab", name="Balance").click()
    agent = page.get_by_label("Agent")
    assert agent.input_value() == "dqn"
    assert agent.locator("option:disabled").all_text_contents() == ["PPO: not on this server"]
    assert page.locator("#balance .source").text_content().startswith("ch00.dqn")


def test_the_exported_policy_balances_the_pole(visit):
    """With a real server and the small models of the tests."""
    process, address = start_server(ROOT / "tests" / "data" / "models")
    try:
        page = visit(at=address + "#balance")
        page.get_by_label("Steps per second").fill("100")
        page.get_by_role("button", name="Start").click()
        for _ in range(60):
            page.wait_for_timeout(500)
            if steps_of(page) > 150:
                break
            assert page.locator("#balance .ending").text_content() == ""
        assert steps_of(page) > 150
        page.close()
    finally:
        stop_server(process)


# Pictures, with responses by the test


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def scene(width: int = 64, height: int = 64, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def sent_picture(request) -> tuple[Image.Image, bytes]:
    """Decode the file of a form, and return it together with its bytes."""
    head, _, rest = request.post_data_buffer.partition(b"\r\n\r\n")
    assert b'name="file"' in head
    data = rest[: rest.rindex(b"\r\n--")]
    return Image.open(io.BytesIO(data)), data


BOXES = [("disc", 0.9, [8, 16, 40, 56]), ("star", 0.625, [30, 2, 60, 20]), ("disc", 0.2, [50, 50, 64, 64])]
"""Detections of the test's server, in pixels of a picture of 64 x 64."""


@pytest.fixture
def detecting(visit):
    """Return a function that opens the tab of the detector; it returns the page and the received pictures."""
    received = []

    def detect(route):
        picture, data = sent_picture(route.request)
        if min(picture.size) == 1:
            return route.fulfill(json={"detail": "file: too thin", "field": "file"}, status=422)
        received.append((picture, data, urlsplit(route.request.url).query))
        across, down = picture.width / 64, picture.height / 64
        found = [
            {"label": label, "score": score, "box": [box[0] * across, box[1] * down, box[2] * across, box[3] * down]}
            for label, score, box in BOXES
        ]
        answer = {"model": "detection", "classes": ["disc", "square", "star"], "detections": found}
        return route.fulfill(json=answer | {"width": picture.width, "height": picture.height})

    def example(route):
        number = int(urlsplit(route.request.url).query.removeprefix("model=detection&number="))
        route.fulfill(body=encoded(scene(level=100 + number)), content_type="image/png")

    def prepare(page):
        page.route("**/models", lambda route: route.fulfill(json=[card("detection")]))
        page.route("**/detect?*", detect)
        page.route("**/example?*", example)

    def open_tab(**settings):
        page = visit(prepare=prepare, **settings)
        page.get_by_role("tab", name="Detect").click()
        playwright_api.expect(page.locator("#detection .count")).not_to_be_empty()
        return page, received

    return open_tab


def pixel(page, panel: str, x: float, y: float) -> list[int]:
    """Return the colour of a canvas at a place given as shares of its width and height."""
    return page.locator(f"#{panel} canvas").evaluate(
        "(canvas, [x, y]) => Array.from(canvas.getContext('2d')"
        ".getImageData(Math.round(x * canvas.width), Math.round(y * canvas.height), 1, 1).data.slice(0, 3))",
        [x, y],
    )


RED, BLUE = [0xFF, 0x6B, 0x60], [0x5A, 0xB0, 0xFF]
"""The page's colours of the first and the third class."""


def test_boxes_are_drawn_on_an_example_with_class_and_score(detecting):
    page, received = detecting()
    ((picture, _, query),) = received
    assert (picture.size, query) == ((64, 64), "threshold=0.05")
    assert np.array_equal(np.asarray(picture.convert("RGB")), scene())
    count, rows = page.locator("#detection .count"), page.locator("#detection .found li")
    assert count.text_content() == "2 objects"
    assert rows.all_text_contents() == ["disc90.0 %", "star62.5 %"]
    swatches = rows.locator(".swatch").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert swatches == ["rgb(255, 107, 96)", "rgb(90, 176, 255)"]
    for x, y in ((8, 30), (40, 30), (20, 56)):  # left, right and lower edge of the disc
        assert pixel(page, "detection", x / 64, y / 64) == RED
    assert pixel(page, "detection", 60 / 64, 10 / 64) == BLUE
    for x, y in ((20, 40), (50, 50), (64 - 1, 57)):  # inside, and an object below the threshold
        assert pixel(page, "detection", x / 64, y / 64) == [100, 100, 100]
    page.get_by_label("Minimum score").fill("0.1")
    assert count.text_content() == "3 objects" and page.locator("#detection .value").text_content() == "0.10"
    assert pixel(page, "detection", 50 / 64, 57 / 64) == RED
    page.get_by_label("Minimum score").fill("0.7")
    assert count.text_content() == "1 object"
    assert pixel(page, "detection", 60 / 64, 10 / 64) == [100, 100, 100]
    page.get_by_label("Minimum score").fill("0.95")
    assert count.text_content() == "No objects" and rows.count() == 0
    playwright_api.expect(page.locator("#detection .spoken")).to_have_text("No objects")
    settle(page)
    assert len(received) == 1, "the slider sends no requests"
    page.get_by_role("button", name="Another example").click()
    wait_until(page, lambda: len(received) == 2)
    assert np.asarray(received[1][0].convert("RGB"))[0, 0].tolist() == [101] * 3


def drop(page, name: str, kind: str, data: bytes) -> None:
    """Drop a file on the open panel."""
    transfer = page.evaluate_handle(
        """([name, kind, data]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: kind }));
            return transfer;
        }""",
        [name, kind, base64.b64encode(data).decode()],
    )
    panel = page.get_by_role("tabpanel")
    panel.dispatch_event("dragover", {"dataTransfer": transfer})
    assert "dropping" in panel.get_attribute("class")
    panel.dispatch_event("drop", {"dataTransfer": transfer})
    assert panel.get_attribute("class") == ""


def test_a_dropped_or_chosen_picture_is_reduced_and_sent(detecting):
    page, received = detecting(expect="422")
    noise = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    drop(page, "noise.png", "image/png", encoded(noise))
    wait_until(page, lambda: len(received) == 2)
    picture, data, _ = received[1]
    assert (picture.size, picture.format) == ((512, 256), "JPEG"), "as PNG it has 400 kB"
    assert len(data) < 240_000
    shape = page.locator("#detection canvas").evaluate("canvas => [canvas.clientWidth / canvas.clientHeight]")
    assert shape == pytest.approx([2], abs=0.02)
    wait_until(page, lambda: page.locator("#detection .count").text_content() == "2 objects")
    assert pixel(page, "detection", 40 / 64, 30 / 64) == RED
    chosen = page.locator("#detection [type=file]")
    transparent = Image.new("RGBA", (20, 30), (255, 0, 0, 0))
    file = io.BytesIO()
    transparent.save(file, "PNG")
    chosen.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()})
    wait_until(page, lambda: len(received) == 3)
    assert received[2][0].size == (20, 30)
    assert (np.asarray(received[2][0].convert("RGB")) == 255).all(), "transparent pictures are shown on white"
    notice = page.locator("#detection .notice")
    chosen.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"})
    playwright_api.expect(notice).to_contain_text("cannot read that file as a picture")
    drop(page, "thin.png", "image/png", encoded(scene(1, 9)))
    playwright_api.expect(notice).to_have_text("file: too thin")
    assert page.locator("#detection .count").text_content() == "" and page.locator(".found li").count() == 0
    drop(page, "small.png", "image/png", encoded(scene()))
    playwright_api.expect(notice).to_be_hidden()
    playwright_api.expect(page.locator("#detection .count")).to_have_text("2 objects")


@pytest.fixture
def segmenting(visit):
    """Open the tab of the segmentation network: the left half of each picture is ground, the right half a disc."""

    def segment(route):
        width, height = sent_picture(route.request)[0].size
        mask = Image.fromarray(
            np.repeat(np.arange(width) >= width // 2, height).reshape(width, height).T.astype(np.uint8)
        )
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        file = io.BytesIO()
        mask.save(file, "PNG", transparency=0)
        answer = {"model": "segmentation", "width": width, "height": height, "shares": [0.25, 0.75, 0]}
        answer |= {"classes": ["ground", "disc", "star"], "colours": ["#000000", "#800000", "#008000"]}
        route.fulfill(json=answer | {"mask": base64.b64encode(file.getvalue()).decode()})

    def prepare(page):
        page.route("**/models", lambda route: route.fulfill(json=[card("segmentation")]))
        page.route("**/segment", segment)
        example = encoded(scene())
        page.route("**/example?*", lambda route: route.fulfill(body=example, content_type="image/png"))

    page = visit(prepare=prepare)
    page.get_by_role("tab", name="Segment").click()
    playwright_api.expect(page.locator("#segmentation .found li")).to_have_count(2)
    return page


def test_a_mask_is_laid_over_the_picture_with_a_legend(segmenting):
    page, rows = segmenting, segmenting.locator("#segmentation .found li")
    assert rows.all_text_contents() == ["disc75.0 %", "ground25.0 %"]
    swatches = rows.locator(".swatch").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert swatches == ["rgb(128, 0, 0)", "rgba(0, 0, 0, 0)"]
    for opacity in (60, 0, 100):
        page.get_by_label("Opacity of the mask").fill(str(opacity))
        assert page.locator("#segmentation .value").text_content() == f"{opacity} %"
        share = opacity / 100
        for x in (0.51, 0.8):
            expected = [share * level + (1 - share) * 100 for level in (128, 0, 0)]
            assert pixel(page, "segmentation", x, 0.5) == pytest.approx(expected, abs=1.01)
        for x in (0.2, 0.49):
            assert pixel(page, "segmentation", x, 0.5) == [100, 100, 100], "the background is transparent"
    drop(page, "white.png", "image/png", encoded(scene(40, 20, 255)))
    page.get_by_label("Opacity of the mask").fill("0")
    wait_until(page, lambda: pixel(page, "segmentation", 0.8, 0.5) == [255, 255, 255])
    playwright_api.expect(rows).to_have_count(2)
    playwright_api.expect(page.locator("#segmentation .spoken")).to_have_text("disc 75.0 %, ground 25.0 %")


def test_the_stylised_picture_is_shown_up_to_a_slider(visit):
    def stylise(route):
        pixels = np.asarray(sent_picture(route.request)[0].convert("RGB"))
        route.fulfill(body=encoded(255 - pixels), content_type="image/png")

    def prepare(page):
        page.route("**/models", lambda route: route.fulfill(json=[card("style")]))
        page.route("**/stylise", stylise)
        example = encoded(scene())
        page.route("**/example?*", lambda route: route.fulfill(body=example, content_type="image/png"))

    page = visit(prepare=prepare)
    page.get_by_role("tab", name="Stylise").click()
    wait_until(page, lambda: pixel(page, "style", 0.5, 0.5) == [155] * 3)
    for share, place in ((100, 0.0), (50, 0.5), (0, 1.0), (25, 0.75)):
        page.get_by_label("Stylised part").fill(str(share))
        assert page.locator("#style .value").text_content() == f"{share} %"
        for x in (0.01, 0.24, 0.26, 0.49, 0.51, 0.74, 0.76, 0.99):
            assert pixel(page, "style", x, 0.5) == [155 if x > place else 100] * 3
    drop(page, "white.png", "image/png", encoded(scene(40, 20, 255)))
    wait_until(page, lambda: pixel(page, "style", 0.99, 0.5) == [0, 0, 0])
    assert pixel(page, "style", 0.5, 0.5) == [255, 255, 255]
    playwright_api.expect(page.locator("#style .spoken")).to_have_text(
        "The picture in the style of the network is shown."
    )


class TextHandler(BaseHTTPRequestHandler):
    """Stream a text in chunks like the server: a short one for the prompt `end`, one that breaks off, or a long one."""

    protocol_version = "HTTP/1.1"
    disconnected = threading.Event()

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        accent = "é".encode()
        try:
            for piece in (b"caf", accent[:1], accent[1:], *([b"x"] * (0 if prompt == "end" else 2_000))):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(0.005)
                if prompt == "break" and piece == b"x":
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.disconnected.set()

    def log_message(self, *_):
        pass


def test_a_text_is_shown_while_it_is_generated_and_can_be_stopped(visit):
    with ThreadingHTTPServer(("127.0.0.1", 0), TextHandler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{elsewhere.server_port}/"

        def prepare(page):
            page.route("**/models", lambda route: route.fulfill(json=[card("text")]))
            page.route("**/generate", lambda route: route.continue_(url=there))

        page = visit(expect="ERR_INCOMPLETE_CHUNKED_ENCODING", prepare=prepare)
        page.get_by_role("tab", name="Write").click()
        prompt, added = page.get_by_label("How the text begins"), page.locator(".added")
        status = page.locator("#text .spoken")
        assert prompt.input_value() == "The value of "
        prompt.fill("end")
        page.get_by_label("Temperature").fill("1.3")
        with page.expect_request("**/generate") as seen:
            page.get_by_role("button", name="Write on").click()
        playwright_api.expect(status).to_have_text("Done after 4 characters.")
        assert added.text_content() == "café" and page.locator(".begun").text_content() == "end"
        sent = seen.value.post_data_json
        assert (sent["length"], sent["temperature"]) == (400, 1.3) and 0 <= sent["seed"] < 2**31
        assert sent["network"] == "recurrent"

        prompt.fill("for ever")
        page.get_by_role("button", name="Write on").press("Enter")
        playwright_api.expect(added).to_contain_text("xxx")  # long before the end
        page.keyboard.press("Enter")  # the same button stops the text
        playwright_api.expect(status).to_have_text(re.compile(r"^Stopped after \d+ characters\.$"))
        assert int(re.findall(r"\d+", status.text_content())[0]) == len(added.text_content()) < 2_004
        assert TextHandler.disconnected.wait(5)

        prompt.fill("break")
        page.get_by_role("button", name="Write on").click()
        playwright_api.expect(page.locator("#text .notice")).to_contain_text("The server does not answer.")
        assert page.get_by_role("button", name="Write on").is_visible()
        elsewhere.shutdown()


@pytest.mark.parametrize("served", [("text", "transformer"), ("transformer",), ("text",)], ids=" and ".join)
def test_networks_that_write_can_be_chosen_if_the_server_has_them(visit, served):
    def prepare(page):
        page.route("**/models", lambda route: route.fulfill(json=[card(name) for name in served]))
        page.route("**/generate", lambda route: route.fulfill(body="abc"))

    page = visit(prepare=prepare)
    page.get_by_role("tab", name="Write").click()
    names = {"text": "recurrent", "transformer": "transformer"}
    network, source = page.get_by_role("combobox", name="Network"), page.locator("#text .source")
    assert network.input_value() == names[served[0]]
    assert source.text_content() == f"ch00.{served[0]}, trained on invented (embedded): test loss 1.235."
    disabled = page.locator("#text option:disabled").all_text_contents()
    assert [text.partition(":")[2] for text in disabled] == [" not on this server"] * (2 - len(served))
    for name in served:
        network.select_option(names[name])
        assert source.text_content().startswith(f"ch00.{name}, trained on invented")
        with page.expect_request("**/generate") as seen:
            page.get_by_role("button", name="Write on").click()
        assert seen.value.post_data_json["network"] == names[name]
        playwright_api.expect(page.locator("#text .spoken")).to_have_text("Done after 3 characters.")


def test_reduced_motion_is_respected(answered):
    page, _ = answered("Maze", reduced_motion="reduce")
    page.get_by_label("Speed").fill("1")
    page.get_by_role("button", name="Another maze").click()
    settle(page)
    assert page.get_by_role("button", name="Walk again").is_visible()  # the animation would take three or four seconds
    assert page.locator(".agent").get_attribute("cx") in ("2.5", "3.5")
    page.get_by_role("tab", name="Draw").click()
    requests = []
    page.on("request", lambda request: requests.append(urlsplit(request.url).path))
    page.get_by_role("button", name="Digit 8").click()
    settle(page)
    assert requests.count("/predict") == 1  # drawn completely, not point by point
    assert (
        page.locator("#digits .track").first.evaluate("track => getComputedStyle(track, '::before').transitionDuration")
        == "0s"
    )


# All networks with a real server


@pytest.fixture(scope="module")
def all_models(models, tmp_path_factory) -> Path:
    """A folder with the small models of the server tests, and the trained network for digits."""
    folder = tmp_path_factory.mktemp("all_models")
    shutil.copytree(MODELS, folder, dirs_exist_ok=True)
    shutil.copytree(models, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.slow
def test_all_networks_answer_on_the_page(visit, all_models):
    process, address = start_server(all_models)
    try:
        page = visit(at=address)
        draw(page, STROKES[0])
        assert guess_of(page) == "0"
        page.get_by_role("tab", name="Show").click()
        page.locator("#pictures").get_by_label("Picture").set_input_files(picture_file(100, 64))
        playwright_api.expect(page.locator("#pictures .bars li")).to_have_count(10)
        page.get_by_role("tab", name="Walk").click()
        settle(page)
        ink = page.locator(".plane canvas").evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v > 50)"
        )
        assert ink
        page.get_by_role("tab", name="Denoise").click()
        wait_until(page, lambda: page.locator("#diffusion [name=shown]").input_value() == "20")
        page.get_by_role("tab", name="Write").click()
        page.get_by_role("button", name="Write on").click()
        playwright_api.expect(page.locator("#text .spoken")).to_have_text("Done after 400 characters.")
        recurrent = page.locator("#text .source").text_content()
        page.get_by_role("combobox", name="Network").select_option("Transformer")
        assert page.locator("#text .source").text_content() != recurrent, "it has another test loss"
        page.get_by_label("Characters to write").fill("150")
        page.get_by_role("button", name="Write on").click()
        playwright_api.expect(page.locator("#text .spoken")).to_have_text("Done after 150 characters.")
        page.get_by_role("tab", name="Films").click()
        page.get_by_role("combobox", name="Films you like").click()
        playwright_api.expect(page.get_by_role("option")).to_have_count(8)
        page.get_by_role("option").nth(2).click()
        playwright_api.expect(page.locator(".suggestions li")).to_have_count(10)
        page.get_by_role("tab", name="Maze").click()
        playwright_api.expect(page.locator("#maze .result")).not_to_be_empty()
        assert page.locator(".floor").get_attribute("d").count("M") > 20
        page.get_by_role("tab", name="Balance").click()
        page.get_by_label("Steps per second").fill("5")
        for agent, output in (("PPO", "%"), ("Deep Q-network", ".")):
            page.get_by_label("Agent").select_option(agent)
            page.get_by_role("button", name="Start").click()
            playwright_api.expect(page.locator("#balance .bars .first")).to_contain_text(output)
        page.get_by_role("tab", name="Detect").click()
        playwright_api.expect(page.locator("#detection .count")).to_contain_text("object")
        page.get_by_label("Minimum score").fill("0.05")
        wait_until(page, lambda: page.locator("#detection .found li").count() > 3)
        page.get_by_role("tab", name="Segment").click()
        wait_until(page, lambda: page.locator("#segmentation .found li").count() > 0)
        with page.expect_response("**/stylise") as seen:
            page.get_by_role("tab", name="Stylise").click()
        assert seen.value.status == 200
        for name in TABS:
            page.get_by_role("tab", name=name).click()
            assert not page.get_by_role("tabpanel").locator(".notice").is_visible()
        page.close()  # before its server, since a request may be running
    finally:
        stop_server(process)


# Missing models and server errors


def test_tabs_of_missing_networks_show_the_command_that_exports_them(visit):
    page = visit()
    assert page.locator("#digits .source").text_content().startswith("ch03_autoencoder_rbm.feedforward, trained on ")
    assert not page.locator("#digits .absent").is_visible()
    for name, command in (
        ("Show", "ch06_cnn"),
        ("Walk", "ch08_vae"),
        ("Denoise", "ch08_vae.train diffusion"),
        ("Write", "ch05_rnn.train language_model"),
        ("Ask", "ch05_rnn.train memory_network"),
        ("Films", "ch03"),
        ("Maze", "ch07_dqn"),
        ("Balance", "ch07_dqn.train ppo"),
        ("Detect", "ch06_cnn.train detection"),
        ("Segment", "ch06_cnn.train segmentation"),
        ("Stylise", "ch06_cnn.train fast_style"),
    ):
        page.get_by_role("tab", name=name).click()
        panel = page.get_by_role("tabpanel")
        assert panel.locator(".absent").is_visible()
        assert command in panel.locator(".absent pre").inner_text()
        assert not panel.locator(".work").is_visible()
        assert panel.locator(".source").text_content() == ""


def test_a_missing_server_is_reported_and_can_be_tried_again(visit):
    disconnected = lambda route: route.abort("connectionrefused")  # noqa: E731
    page = visit(expect="ERR_CONNECTION_REFUSED", prepare=lambda page: page.route("**/models", disconnected))
    trouble = page.locator(".server")
    playwright_api.expect(trouble).to_contain_text("The server does not answer.")
    assert not page.locator("#digits .work").is_visible()
    page.unroute("**/models")
    trouble.get_by_role("button", name="Try again").click()
    playwright_api.expect(trouble).to_be_hidden()
    page.route("**/predict", disconnected)
    draw(page, STROKES[1])
    playwright_api.expect(page.locator("#digits .notice")).to_contain_text("The server does not answer.")
    page.unroute("**/predict")
    draw(page, [[(50, 50), (50, 60)]])
    settle(page)
    assert page.locator("#digits .notice").is_hidden()


def test_a_busy_server_is_asked_again_after_retry_after(visit):
    times = []

    def busy(route):
        times.append(time.monotonic())
        if len(times) == 1:
            return route.fulfill(status=503, headers={"Retry-After": "0.3"}, body='{"detail": "full"}')
        return route.continue_()

    page = visit(expect="503", prepare=lambda page: page.route("**/predict", busy))
    draw(page, [[(50, 20), (50, 80)]])
    playwright_api.expect(page.locator("#digits .guess strong")).to_have_text("1")
    assert times[1] - times[0] >= 0.25
    assert page.locator("#digits .notice").is_hidden()


def test_the_key_is_requested_once(visit, models, tmp_path):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef-key")
    process, guarded = start_server(models, "--api-key-file", str(key))
    try:
        page = visit(at=guarded, expect="401")
        dialog = page.get_by_role("dialog", name="This server requires an API key")
        playwright_api.expect(dialog).to_be_visible()
        assert not dialog.locator(".wrong").is_visible()
        dialog.get_by_label("Key").fill("not the right one")
        page.keyboard.press("Enter")
        playwright_api.expect(dialog.get_by_text("This key is wrong.")).to_be_visible()
        dialog.get_by_role("button", name="Not now").click()
        playwright_api.expect(page.locator(".server")).to_contain_text("requires an API key")
        page.get_by_role("button", name="Try again").click()
        dialog.get_by_label("Key").fill(key.read_text())
        page.keyboard.press("Enter")
        playwright_api.expect(dialog).to_be_hidden()
        draw(page, STROKES[1])
        assert guess_of(page) == "1"
        page.reload()
        draw(page, STROKES[1])
        assert guess_of(page) == "1"
        assert key.read_text() not in page.content()
    finally:
        stop_server(process)


# Appearance and accessibility


CONTRAST = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = numbers(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
            if (colour[3] > 0) throw new Error("half transparent: " + element.className);
        }
        throw new Error("no background");
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility()) continue;
        const [one, other] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        found.push([ratio, node.data.trim().slice(0, 40)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_text_has_enough_contrast_and_fits_the_width(visit, scheme, size):
    page = visit(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")
    page.get_by_role("button", name="Digit 5").click()
    settle(page)
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        for part in (".absent", ".work"):  # both, with and without the model
            page.get_by_role("tabpanel").locator(part).evaluate("part => (part.hidden = false)")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        ratios = page.evaluate(CONTRAST)
        assert len(ratios) > 10
        assert min(ratios)[0] >= 4.5, (name, min(ratios))


def test_focusable_elements_have_unique_names(visit):
    page = visit()
    devtools = page.context.new_cdp_session(page)
    page.evaluate("document.querySelectorAll('.absent, .work, details').forEach((one) => (one.hidden = false))")
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        focusable = []
        for node in devtools.send("Accessibility.getFullAXTree")["nodes"]:
            features = {feature["name"]: feature["value"].get("value") for feature in node.get("properties", [])}
            if features.get("focusable") and node["role"]["value"] != "RootWebArea":
                focusable.append((node["role"]["value"], node["name"]["value"]))
        assert len(focusable) > len(TABS)
        assert all(name for _, name in focusable), focusable
        assert len(set(focusable)) == len(focusable), focusable


# Security


def test_the_content_security_policy_is_strict(visit, address):
    page = visit(expect="Content Security Policy|ERR_BLOCKED|Failed to fetch")
    policy = page.request.get(address).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    settle(page)
    blocked = page.evaluate("fetch('http://192.0.2.1/').then(() => 'sent', (error) => error.name)")
    assert blocked == "TypeError"


def test_sources_have_no_inline_scripts_and_no_other_hosts():
    files = sorted(path for path in PLAYGROUND.iterdir())
    assert {path.suffix for path in files} == {".html", ".css", ".js", ".svg"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            path
        )
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert (PLAYGROUND / "index.html").stat().st_size < 22_000
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'package-data.ch10_deploy = ["playground/*"]' in project


def test_screenshots_of_the_page(models, tmp_path, command):
    both = shutil.copytree(models, tmp_path / "models")
    for path in (ROOT / "tests" / "data" / "models").glob("ppo.*"):
        shutil.copy(path, both)
    done = command("ch10_deploy.screenshots", "--models", str(both), "--out", str(tmp_path), "--threads", "1")
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("ch10_deploy/screenshots/*/summary.json")
    metrics = json.loads(summary.read_text())["metrics"]
    assert (metrics["networks"], metrics["requests_to_other_hosts"], metrics["browser_warnings"]) == (2, 0, 0)
    files = sorted(tmp_path.glob("ch10_deploy/screenshots/*/*.png"))
    assert [path.stem for path in files] == ["digits", "ppo"]
    for path in files:
        with Image.open(path) as image:
            assert image.width == screenshots.SIZE["width"]
