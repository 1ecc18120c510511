"""The server: responses, errors, limits, verification of models, and its command."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

import gymnasium
import httpx
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.external_data_helper import convert_model_to_external_data
from PIL import Image, ImageCms, PngImagePlugin

from ch10_deploy import serve
from ch10_deploy.attack import server_process as runner
from ch10_deploy.attack.attacks import chunk, heavy_png, png
from ch10_deploy.attack.server_process import running
from ch10_deploy.inference import cards, trials
from ch10_deploy.inference import image_decoding as pixels
from ch10_deploy.inference.cards import checksum
from ch10_deploy.inference.drawing.denoising import Denoiser
from ch10_deploy.inference.models import NAMES, find_card, load_model, load_models, newest_export
from ch10_deploy.server import endpoints, gate
from ch10_deploy.server.app import create_app
from ch10_deploy.server.gate import Limits
from ch10_deploy.server.refusal import Refusal
from conftest import ROOT

NOISE = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
BLANK = [[0] * 28 for _ in range(28)]
REST = [0.0] * 4


class Client:
    """Send requests to an application in this process, without a network."""

    def __init__(self, app):
        self.app = app

    def __call__(self, method: str, path: str, **options) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def post(self, path: str, body: object, **options) -> httpx.Response:
        return self("POST", path, json=body, **options)


@pytest.fixture(scope="module")
def ask(models) -> Client:
    return Client(create_app(models))


def test_the_server_does_not_import_torch():
    script = """
import sys
import ch10_deploy.serve, ch10_deploy.server.app, ch10_deploy.loadtest
heavy = {"torch", "matplotlib", "sklearn", "onnx", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Responses.


def test_probes_and_model_cards(ask):
    assert ask("GET", "/healthz").json() == {"status": "ok"}
    assert ask("GET", "/readyz").json() == {"status": "ready", "models": list(NAMES)}
    cards = ask("GET", "/models").json()
    assert [card["name"] for card in cards] == list(NAMES)
    assert all("serving" not in card for card in cards), "titles, mazes and vocabularies must not be sent"
    assert all({"data", "metrics", "sha256", "weights_sha256", "parity", "versions"} <= card.keys() for card in cards)


def test_the_shape_of_an_image_selects_the_network(ask, models):
    image = np.random.default_rng(0).integers(0, 256, (28, 28))
    answer = ask.post("/predict", {"pixels": image.tolist()}).json()
    p = load_model(models / "digits.json")(pixels=image[np.newaxis].astype(np.uint8))["probabilities"][0]
    assert answer["model"] == "digits"
    assert answer["classes"] == list("0123456789")
    assert answer["probabilities"] == pytest.approx(p.tolist())
    assert answer["label"] == str(p.argmax())
    colour = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    answer = ask.post("/predict", {"pixels": colour.tolist()}).json()
    assert answer["model"] == "pictures"
    assert answer["label"] == answer["classes"][int(np.argmax(answer["probabilities"]))]


def upload(data: bytes) -> dict:
    return {"files": {"file": ("a.png", data, "image/png")}}


def png_of(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def ordinary_png(pixels: np.ndarray) -> bytes:
    """Encode a file with the metadata that GIMP, Pillow or phones write."""
    kept = PngImagePlugin.PngInfo()
    kept.add_text("Comment", "drawn by hand")
    kept.add_text("Description", "compressed " * 100, zip=True)
    kept.add_itxt("Title", "Ziffer", lang="de", zip=True)
    kept.add(b"gAMA", struct.pack(">I", 45_455))
    kept.add(b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5))
    kept.add(b"vpAg", b"an older program's own")
    file = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=kept, dpi=(72, 72), icc_profile=profile, exif=b"Exif\0\0II")
    return file.getvalue()


def test_metadata_of_a_png_file_are_never_decompressed(ask, monkeypatch):
    file = ordinary_png(NOISE)
    for kind in (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"tIME", b"pHYs", b"iCCP", b"eXIf", b"vpAg"):
        assert kind in file
    decompressed = []
    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", lambda data: decompressed.append(data) or b"")
    for data in (file, heavy_png()):
        kinds = re.findall(rb"[A-Za-z]{4}", pixels.remove_metadata(data)[:40])
        assert kinds[0] == b"IHDR"
        assert ask("POST", "/predict/image", **upload(data)).status_code == 200
    assert np.array_equal(pixels.from_png(file), NOISE)
    assert decompressed == []
    assert len(heavy_png()) > 60_000
    assert len(pixels.remove_metadata(heavy_png())) < 200


def test_palette_and_transparency_are_kept():
    picture = Image.fromarray(NOISE // 16).convert("P")
    picture.putpalette([16 * (number % 16) for number in range(256) for _ in range(3)])
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=3)
    assert {b"PLTE", b"tRNS"} <= set(re.findall(rb"PLTE|tRNS", pixels.remove_metadata(file.getvalue())))
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert np.array_equal(pixels.from_png(file.getvalue()), np.asarray(image.convert("L")))


def test_a_file_is_decoded_in_another_thread(ask, monkeypatch):
    threads = []
    monkeypatch.setattr(
        pixels, "from_png", lambda data: threads.append(threading.current_thread()) or np.zeros((28, 28), np.uint8)
    )
    ask("POST", "/predict/image", **upload(b"x"))
    assert threads and threads[0] is not threading.main_thread()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_a_png_file_and_its_pixels_give_the_same_response(ask, mode):
    grey = np.random.default_rng(1).integers(0, 2, (28, 28), dtype=np.uint8) * 255
    from_file = ask("POST", "/predict/image", **upload(png_of(Image.fromarray(grey).convert(mode)))).json()
    assert from_file == ask.post("/predict", {"pixels": grey.tolist()}).json()
    colour = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    from_file = ask("POST", "/predict/image", **upload(png_of(Image.fromarray(colour)))).json()
    assert from_file == ask.post("/predict", {"pixels": colour.tolist()}).json()


def test_decoder_text_films_and_mazes(ask, models):
    picture = np.array(ask.post("/decode", {"latent": [0.5, -1]}).json()["pixels"])
    assert picture.shape == (28, 28)
    assert picture.min() >= 0
    assert picture.max() <= 255
    body = {"prompt": "The", "length": 50, "temperature": 0.7, "top_k": 5, "seed": 4}
    first, second = (ask.post("/generate", body) for _ in range(2))
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(first.text) == 50
    assert first.text == second.text
    other = ask.post("/generate", body | {"network": "transformer"})
    assert len(other.text) == 50 and other.text != first.text
    assert ask.post("/generate", body | {"network": "recurrent"}).text == first.text
    assert ask.post("/generate", body | {"network": "gru"}).json()["field"] == "network"
    films = ask("GET", "/films", params={"limit": 3}).json()["films"]
    assert len(films) == 3
    assert ask("GET", "/films", params={"query": films[1], "limit": 1}).json()["films"] == [films[1]]
    answer = ask.post("/recommend", {"likes": [films[0].upper()], "dislikes": [films[2]], "top": 4}).json()
    assert answer["matched"] == [
        {"asked": films[0].upper(), "title": films[0]},
        {"asked": films[2], "title": films[2]},
    ]
    assert len(answer["films"]) == 4
    assert not {film["title"] for film in answer["films"]} & {films[0], films[2]}
    told = "Mary took the milk. Mary went to the garden.\nJohn went to the office."
    reading = ask.post("/ask", {"story": told, "question": "Where is the milk?"}).json()
    assert reading["statements"] == ["Mary took the milk.", "Mary went to the garden.", "John went to the office."]
    assert np.shape(reading["attention"]) == (3, 3)
    assert np.all(np.sum(reading["attention"], 0) < 1), "the rest is the weight of the empty memory"
    assert 0 < reading["probability"] <= 1 and reading["answer"]
    maze = ask.post("/maze", {"seed": 5}).json()
    assert set(maze) == {"tiles", "start", "goal", "path", "shortest_steps", "solved"}
    assert maze["path"][0] == maze["start"]
    assert ask.post("/maze", {"seed": 5}).json() == maze


@pytest.mark.parametrize(("agent", "output"), [("ppo", "probabilities"), ("dqn", "values")])
def test_actions_of_a_cart_are_those_with_the_largest_output(ask, models, agent, output):
    states = np.random.default_rng(0).uniform(-1, 1, (20, 4)) * (2.4, 3, 0.2, 3)
    answer = ask.post("/balance", {"agent": agent, "states": states.tolist()}).json()
    expected = load_model(models / f"{agent}.json")(observations=states.astype(np.float32))[output]
    assert (answer["model"], answer["actions"]) == (agent, ["left", "right"])
    for row, decision in zip(expected, answer["decisions"], strict=True):
        assert decision == {"action": int(row[1] > row[0]), output: pytest.approx(row.tolist())}
    alone = ask.post("/balance", {"agent": agent, "states": states[:1].tolist()}).json()
    assert alone["decisions"][0][output] == pytest.approx(answer["decisions"][0][output])
    assert len({decision["action"] for decision in answer["decisions"]}) == 2 or agent == "dqn"
    if agent == "ppo":
        assert ask.post("/balance", {"states": states.tolist()}).json() == answer, "the default"
        assert [sum(decision[output]) for decision in answer["decisions"]] == pytest.approx([1] * 20)


def test_the_policy_balances_a_pole_of_gymnasium(ask):
    environment = gymnasium.make("CartPole-v1")
    state, _ = environment.reset(seed=0)
    for _ in range(300):
        (decision,) = ask.post("/balance", {"states": [state.tolist()]}).json()["decisions"]
        state, _, terminated, *_ = environment.step(decision["action"])
        assert not terminated


def test_a_text_yields_to_other_requests(ask):
    async def both() -> list[str]:
        ended = []

        async def one(method: str, path: str, **options) -> None:
            await client.request(method, path, **options)
            ended.append(path)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(ask.app), base_url="http://test") as client:
            await asyncio.gather(one("POST", "/generate", json={"length": 1000}), one("GET", "/healthz"))
        return ended

    assert asyncio.run(both()) == ["/healthz", "/generate"]


def test_a_digit_is_generated_from_noise(ask):
    film = ask.post("/denoise", {"digit": 3, "guidance": 2.5, "steps": 4, "seed": 5}).json()
    assert film["times"] == [1_000, 750, 500, 250, 0]
    for name, count in (("images", 5), ("predicted", 4)):
        assert np.shape(film[name]) == (count, 28, 28)
        assert np.min(film[name]) >= 0 and np.max(film[name]) <= 255
    assert film["images"][-1] == film["predicted"][-1]
    assert ask.post("/denoise", {"digit": 3, "guidance": 2.5, "steps": 4, "seed": 5}).json() == film
    assert ask.post("/denoise", {"digit": 3, "guidance": 2.5, "steps": 4, "seed": 6}).json() != film


def test_the_number_of_digits_generated_at_once_is_limited(models, monkeypatch):
    go, app = threading.Event(), create_app(models)
    monkeypatch.setattr(Denoiser, "denoise", lambda *_: {"done": go.wait(10)})

    async def crowd() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            tasks = [asyncio.create_task(client.post("/denoise", json={})) for _ in range(6)]
            while sum(task.done() for task in tasks) < 2:
                await asyncio.sleep(0.01)
            assert (await client.get("/healthz")).status_code == 200, "the event loop is not blocked"
            go.set()
            return sorted([(await task).status_code for task in tasks])

    for _ in range(2):  # the slots are released
        go.clear()
        assert asyncio.run(crowd()) == [200] * 4 + [503] * 2


def test_a_model_with_few_steps_refuses_more(models):
    few = Denoiser(load_models(models)["diffusion"])
    few.abar = few.abar[:11]
    assert len(few.denoise(0, 1.0, 10, 0)["times"]) == 11
    with pytest.raises(Refusal, match="must be at most 10, got 11"):
        few.denoise(0, 1.0, 11, 0)


def test_the_openapi_description_lists_the_endpoints(ask):
    description = ask("GET", "/openapi.json").json()
    paths = {"/predict", "/decode", "/denoise", "/generate", "/ask", "/recommend", "/maze", "/films", "/models", *FILES}
    paths |= {"/balance"}
    assert paths <= description["paths"].keys()
    for path in ("/docs", "/redoc"):
        assert ask("GET", path).status_code == 404, "the page loads scripts from another host"


def test_all_responses_have_the_security_headers(ask, monkeypatch):
    monkeypatch.setattr(pixels, "from_png", lambda value: 1 / 0)
    mistake = ask("POST", "/predict/image", **upload(b"x"))
    assert mistake.status_code == 500
    for answer in (ask("GET", "/healthz"), ask.post("/predict", {}), ask("GET", "/nowhere"), ask("GET", "/"), mistake):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


def test_metrics_of_requests(models):
    ask = Client(create_app(models))
    for _ in range(3):
        ask("GET", "/healthz")
    ask.post("/predict", {})
    ask("GET", "/one")
    ask("GET", "/two")
    text = ask("GET", "/metrics").text
    assert 'requests_total{path="/healthz",status="200"} 3.0' in text
    assert 'requests_total{path="/predict",status="422"} 1.0' in text
    assert 'requests_total{path="other",status="404"} 2.0' in text, "unknown paths must share one label"
    assert 'request_seconds_count{path="/healthz"} 3.0' in text
    assert "requests_running 0.0" in text
    assert "process_resident_memory_bytes" in text


# Invalid requests.

BAD = [
    ("/predict", {"pixels": [*BLANK[:27], [1.0] + [0] * 27]}, 422, "without a decimal point, got 1.0"),
    ("/predict", {"pixels": BLANK, "x": 1}, 422, "x: unknown field"),
    ("/predict/batch", {"images": BLANK}, 422, "images[0][0]: must be a list of 28, got 0"),
    ("/predict/batch", {"images": []}, 422, "images: must be a list of 1 to 64 images, got a list of 0"),
    ("/predict/batch", {"images": [[]] * 65}, 422, "images: must be a list of 1 to 64 images, got a list of 65"),
    ("/predict/batch", {"images": BLANK[0][0]}, 422, "images: must be a list of 1 to 64 images, got another type"),
    ("/predict/batch", {"images": [BLANK, [*BLANK[:27], [0] * 27 + [-1]]]}, 422, "images[1][27][27]: a pixel is"),
    ("/predict/batch", {"images": [BLANK, [[[0, 0, 0]] * 32] * 32]}, 422, "images[1]: all images of a batch"),
    ("/predict/batch", {"pixels": BLANK}, 422, "images: the body must be an object"),
    ("/predict/batch", {"images": [BLANK], "top": 1}, 422, "top: unknown field"),
    ("/decode", {"latent": [1, 2], "x": 1}, 422, "x: Extra inputs are not permitted"),
    ("/decode", {"latent": ["1", 2]}, 422, "latent[0]: Input should be a valid number"),
    ("/decode", {"latent": [True, 2]}, 422, "latent[0]: Input should be a valid number"),
    ("/denoise", {"digit": "7"}, 422, "digit: Input should be a valid integer"),
    ("/denoise", {"digit": 10}, 422, "digit: must be below 10, the number of classes, got 10"),
    ("/denoise", {"digit": -1}, 422, "digit: Input should be greater than or equal to 0"),
    ("/denoise", {"guidance": 11}, 422, "guidance: Input should be less than or equal to 10"),
    ("/denoise", {"steps": 0}, 422, "steps: Input should be greater than or equal to 1"),
    ("/denoise", {"steps": 51}, 422, "steps: Input should be less than or equal to 50"),
    ("/denoise", {"stride": 1}, 422, "stride: Extra inputs are not permitted"),
    ("/generate", {"length": "20"}, 422, "length: Input should be a valid integer"),
    ("/generate", {"length": 20.0}, 422, "length: Input should be a valid integer"),
    ("/generate", {"temperature": "1"}, 422, "temperature: Input should be a valid number"),
    ("/generate", {"prompt": 5}, 422, "prompt: Input should be a valid string"),
    ("/generate", {"top_k": True}, 422, "top_k: Input should be a valid integer"),
    ("/generate", {"words": 3}, 422, "words: Extra inputs are not permitted"),
    ("/ask", {"story": "Mary ran."}, 422, "question: Field required"),
    ("/ask", {"story": ["Mary ran."], "question": "Who?"}, 422, "story: Input should be a valid string"),
    ("/ask", {"story": " . ", "question": "Where is Mary?"}, 422, "story: the story must have at least one statement"),
    ("/ask", {"story": "Mary took the milk.", "question": "?"}, 422, "question: the question must have at least one"),
    ("/ask", {"story": "Mary took teh milk.", "question": "Where?"}, 422, "the words 'teh' (did you mean 'the'?)"),
    ("/ask", {"story": "Mary took the milk.", "question": "Qqq?"}, 422, "question: the network was trained on stories"),
    ("/ask", {"story": "x" * 5_001, "question": "Who?"}, 422, "story: String should have at most 5000 characters"),
    ("/recommend", {"likes": ["x"], "top": "5"}, 422, "top: Input should be a valid integer"),
    ("/recommend", {"likes": ["x"], "hates": []}, 422, "hates: Extra inputs are not permitted"),
    ("/maze", {"seed": "5"}, 422, "seed: Input should be a valid integer"),
    ("/maze", {"seed": True}, 422, "seed: Input should be a valid integer"),
    ("/maze", {"sed": 1}, 422, "sed: Extra inputs are not permitted"),
    ("/maze", {"s" * 1_000: 1}, 422, "s" * 200 + ": Extra"),
    ("/predict", {}, 422, "pixels: the body must be an object"),
    ("/predict", [], 422, "pixels: the body must be an object"),
    ("/predict", {"pixels": None}, 422, "pixels: an image is a list of 28 rows of 28 pixels"),
    ("/predict", {"pixels": "0" * 28}, 422, "got a string"),
    ("/predict", {"pixels": []}, 422, "got 0 rows"),
    ("/predict", {"pixels": BLANK[:27]}, 422, "got 27 rows"),
    (
        "/predict",
        {"pixels": [*BLANK[:3], [0] * 27, *BLANK[4:]]},
        422,
        "pixels[3]: must be a list of 28, got a list of 27",
    ),
    ("/predict", {"pixels": [*BLANK[:27], {"a": 1}]}, 422, "pixels[27]: must be a list of 28, got an object"),
    ("/predict", {"pixels": [*BLANK[:27], [0] * 27 + [256]]}, 422, "pixels[27][27]: a pixel is a whole number"),
    ("/predict", {"pixels": [*BLANK[:27], [-1] + [0] * 27]}, 422, "pixels[27][0]: a pixel is a whole number"),
    ("/predict", {"pixels": [*BLANK[:27], [0.5] + [0] * 27]}, 422, "without a decimal point, got 0.5"),
    ("/predict", {"pixels": [*BLANK[:27], [True] + [0] * 27]}, 422, "got true"),
    ("/predict", {"pixels": [*BLANK[:27], [None] + [0] * 27]}, 422, "got null"),
    ("/predict", {"pixels": [[[0, 0]] * 32] * 32}, 422, "pixels[0][0]: must be a list of 3, got a list of 2"),
    ("/predict", {"pixels": [[0] * 32] * 32}, 422, "pixels[0][0]: must be a list of 3, got 0"),
    ("/decode", {"latent": [1, 2, 3]}, 422, "latent: must have 2 numbers, got 3"),
    ("/decode", {"latent": []}, 422, "latent: List should have at least 1 item"),
    ("/decode", {"latent": ["x", 1]}, 422, "latent[0]: "),
    ("/decode", {"latent": [1e39, 1]}, 422, "latent[0]: Input should be less than or equal to 1000"),
    ("/decode", {}, 422, "latent: Field required"),
    ("/generate", {"length": 2001}, 422, "length: Input should be less than or equal to 2000"),
    ("/generate", {"length": 0}, 422, "length: "),
    ("/generate", {"temperature": -0.1}, 422, "temperature: "),
    ("/generate", {"temperature": 2.1}, 422, "temperature: "),
    ("/generate", {"top_k": 0}, 422, "top_k: "),
    ("/generate", {"seed": -1}, 422, "seed: "),
    ("/generate", {"prompt": "\u4e2d\u6587"}, 422, "prompt: no character is in the network's vocabulary"),
    ("/generate", {"prompt": "x" * 2001}, 422, "prompt: "),
    ("/recommend", {}, 422, "likes: name at least one film"),
    ("/recommend", {"likes": ["no such film at all"]}, 422, "likes[0]: no film 'no such film at all'"),
    ("/recommend", {"likes": ["x"] * 21}, 422, "likes: "),
    ("/recommend", {"likes": [5]}, 422, "likes[0]: "),
    ("/recommend", {"likes": ["x"], "dislikes": ["y"] * 20}, 422, "dislikes: name at most 20 films, liked or disliked"),
    ("/recommend", {"likes": [], "top": 0}, 422, "top: "),
    ("/maze", {"seed": "x"}, 422, "seed: "),
    ("/maze", {"seed": 2**63}, 422, "seed: "),
    ("/balance", {}, 422, "states: Field required"),
    ("/balance", {"states": []}, 422, "states: List should have at least 1 item"),
    ("/balance", {"states": [REST] * 65}, 422, "states: List should have at most 64 items"),
    ("/balance", {"states": REST}, 422, "states[0]: Input should be a valid list"),
    ("/balance", {"states": [REST, []]}, 422, "states[1]: List should have at least 1 item"),
    (
        "/balance",
        {"states": [REST, REST[:3]]},
        422,
        "states[1]: must have 4 numbers (position, velocity, angle, angular velocity), got 3",
    ),
    ("/balance", {"agent": "dqn", "states": [[*REST, 0.0]]}, 422, "states[0]: must have 4 numbers"),
    ("/balance", {"states": [[0, 0, "0", 0]]}, 422, "states[0][2]: Input should be a valid number"),
    ("/balance", {"states": [[0, 0, True, 0]]}, 422, "states[0][2]: Input should be a valid number"),
    ("/balance", {"states": [[0, 0, float("nan"), 0]]}, 422, "states[0][2]: Input should be a finite number"),
    ("/balance", {"states": [[0, 0, float("inf"), 0]]}, 422, "states[0][2]: Input should be a finite number"),
    ("/balance", {"states": [[0, 0, 0, 1001]]}, 422, "states[0][3]: Input should be less than or equal to 1000"),
    ("/balance", {"states": [[0, -1001, 0, 0]]}, 422, "states[0][1]: Input should be greater than or equal to -1000"),
    ("/balance", {"agent": "sarsa", "states": [REST]}, 422, "agent: Input should be 'ppo' or 'dqn'"),
    ("/balance", {"states": [REST], "greedy": True}, 422, "greedy: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("path", "body", "status", "reason"), BAD)
def test_an_invalid_field_is_reported_with_the_reason(ask, path, body, status, reason):
    answer = ask("POST", path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status
    problem = answer.json()
    assert reason in problem["detail"]
    assert set(problem) == {"detail", "field"}
    assert problem["field"] is not None and problem["detail"].startswith(problem["field"])


def test_an_unknown_title_is_answered_with_suggestions(ask):
    film = ask("GET", "/films", params={"limit": 1}).json()["films"][0]
    answer = ask.post("/recommend", {"dislikes": [film[1:]]})
    assert answer.status_code == 422
    assert "did you mean" in answer.json()["detail"]
    assert film in answer.json()["detail"]
    both = ask.post("/recommend", {"likes": [film], "dislikes": [film]})
    assert f"dislikes[0]: {film!r} is both liked and disliked" in both.json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"pixels": "\\ud800"}', "application/json", 400),
        (b'{"\\ud800": 1}', "application/json", 400),
        (json.dumps({"pixels": BLANK}).encode(), "text/plain", 415),
        (json.dumps({"pixels": BLANK}).encode(), "application/json; charset=utf-8", 200),
    ],
)
def test_invalid_json_and_content_types(ask, content, kind, status):
    assert ask("POST", "/predict", content=content, headers={"content-type": kind}).status_code == status


def test_a_query_that_is_too_long_is_reported_as_the_field(ask):
    problem = ask("GET", "/films", params={"query": "x" * 201}).json()
    assert problem["field"] == "query"
    assert problem["detail"].startswith("query: String should have at most 200 characters")


@pytest.mark.parametrize(
    "path", ["/predict", "/decode", "/denoise", "/generate", "/ask", "/recommend", "/maze", "/balance"]
)
def test_invalid_json_has_the_same_error_at_all_endpoints(ask, path):
    answer = ask("POST", path, content=b'{"latent": 1,}', headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the body is not valid JSON: ")
    assert answer.json()["field"] is None


@pytest.mark.parametrize(
    "path",
    ["/predict", "/predict/batch", "/decode", "/denoise", "/generate", "/ask", "/recommend", "/maze", "/balance"],
)
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b'{"latent": [NaN, 1]}', 422),
        (b'{"top": Infinity, "seed": NaN, "length": -Infinity, "temperature": NaN}', 422),
    ],
)
def test_a_broken_body_is_refused(ask, path, content, status):
    answer = ask("POST", path, content=content, headers={"content-type": "application/json"})
    if content == b"" and not path.startswith("/predict"):
        status = 422  # FastAPI reports a missing body
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    ["/predict", "/predict/batch", "/decode", "/denoise", "/generate", "/ask", "/recommend", "/maze", "/balance"],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_a_body_of_another_content_type_is_refused(ask, path, headers):
    answer = ask("POST", path, content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert "the body must " in answer.json()["detail"]


FILES = ["/predict/image", "/detect", "/segment", "/stylise"]
"""Endpoints that take a file."""


@pytest.mark.parametrize("path", FILES)
def test_a_file_must_be_sent_as_a_form(ask, path):
    for headers in ({}, {"content-type": "image/png"}, {"content-type": "application/json"}):
        answer = ask("POST", path, content=png_of(Image.fromarray(NOISE)), headers=headers)
        assert answer.status_code == 415
        assert "multipart/form-data" in answer.json()["detail"]


@pytest.mark.parametrize("limit", ["x", " 5", "5.0", "+5", "1_0", "٥", "", "0", "101", "-1", "5&limit=x"])
def test_a_number_in_a_query_must_consist_of_digits(ask, limit):
    problem = ask("GET", f"/films?limit={limit}")
    assert problem.status_code == 422
    assert problem.json()["field"] == "limit"


def test_an_unknown_query_parameter_is_refused(ask):
    problem = ask("GET", "/films", params={"qery": "x"})
    assert problem.status_code == 422
    assert problem.json() == {"detail": "qery: Extra inputs are not permitted", "field": "qery"}


def test_a_batch_gives_the_same_predictions_as_single_images(ask):
    rng = np.random.default_rng(3)
    for shape in ((28, 28), (32, 32, 3)):
        images = rng.integers(0, 256, (5, *shape)).tolist()
        answer = ask.post("/predict/batch", {"images": images}).json()
        each = [ask.post("/predict", {"pixels": image}).json() for image in images]
        assert answer["model"] == each[0]["model"]
        assert answer["classes"] == each[0]["classes"]
        assert [one["label"] for one in answer["predictions"]] == [one["label"] for one in each]
        for one, alone in zip(answer["predictions"], each, strict=True):
            assert one["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a readable PNG"),
        (b"hello", "not a readable PNG"),
        (png_of(Image.fromarray(NOISE))[:400], "not a readable PNG"),
        (png_of(Image.new("L", (28, 28)), "JPEG"), "not a readable PNG"),
        (png_of(Image.new("L", (28, 27))), "got 28x27"),
        (png_of(Image.new("L", (27, 28))), "got 27x28"),
        (png_of(Image.new("L", (512, 512))), "got 512x512"),
        (png_of(Image.new("I;16", (28, 28))), "8 bits per channel"),
        (png(60_000, 60_000, 2, bytes(10**6)), "file: "),
        (png(28, 28, 0, b""), "not a readable PNG"),
        (png(28, 28, 0, bytes(28 * 29), chunk(b"NeWs", b"")), "unknown chunk b'NeWs'"),
        (png(28, 28, 0, bytes(28 * 29), chunk(b"IHDR", b"")), "in the wrong order"),
        (png(28, 28, 0, bytes(28 * 29), b"\xff\xff\xff\xffzTXt"), "truncated"),
        (png(28, 28, 0, bytes(28 * 29))[:-12], "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
    ],
)
def test_a_file_that_is_not_an_image_of_the_right_size_is_refused(ask, data, reason):
    began = time.perf_counter()
    answer = ask("POST", "/predict/image", **upload(data))
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]
    assert answer.json()["field"] == "file"
    assert time.perf_counter() - began < 2, "10 GB of pixels were decompressed"


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"files": {"file": ("a", b"x"), "other": ("b", b"x")}}, 400),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))]}, 400),
        ({"files": {"file": ("a", b"x")}, "data": {"note": "x"}}, 400),
        ({"files": {"other": ("a", b"x")}}, 422),
        ({"files": {"x": (None, b"x")}}, 400),
    ],
)
def test_a_form_must_have_exactly_one_file(ask, path, fields, status):
    answer = ask("POST", path, **fields)
    assert answer.status_code == status
    assert answer.json()["field"] == ("file" if status == 422 else None)
    broken = ask("POST", path, content=b"--x", headers={"content-type": "multipart/form-data"})
    assert broken.status_code == 400


def test_other_paths_and_methods(ask):
    assert ask("GET", "/nowhere").json()["detail"] == "GET /nowhere: Not Found"
    assert ask("GET", "/predict").status_code == 405
    assert ask("GET", "/playground/..%2fserver.py").status_code == 404
    assert ask("GET", "/playground/%00").status_code == 404
    assert ask("GET", "/playground/server.py").status_code == 404
    refused = ask("POST", "/films")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert ask("GET", "/predict").headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/films/", "/healthz/", "/predict/", "/playground/page.js/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_are_no_redirects_to_the_host_of_the_request(ask, path, method):
    answer = ask(method, path, headers={"host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "evil" not in answer.text


def test_a_model_that_is_not_served_is_a_404_with_a_reason(models, tmp_path):
    for suffix in ("json", "onnx"):
        shutil.copy(models / f"digits.{suffix}", tmp_path)
    ask = Client(create_app(tmp_path))
    bodies = {
        "/decode": {"latent": [1, 2]},
        "/denoise": {},
        "/generate": {},
        "/ask": {"story": "Mary ran.", "question": "Who ran?"},
        "/recommend": {"likes": ["x"]},
        "/maze": {},
        "/predict": {"pixels": [[[0, 0, 0]] * 32] * 32},
    }
    for path, body in bodies.items():
        answer = ask.post(path, body)
        assert answer.status_code == 404
        assert "model; it has digits" in answer.json()["detail"]
    assert ask("GET", "/films").status_code == 404
    assert ask.post("/predict", {"pixels": BLANK}).status_code == 200
    assert ask("GET", "/readyz").json()["models"] == ["digits"]


# Pixels.


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_valid_pixels_are_decoded(data):
    shape = data.draw(st.sampled_from([(28, 28), (32, 32, 3)]))
    image = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(0, 256, shape)
    found = pixels.from_lists(image.tolist())
    assert found.dtype == np.uint8
    assert np.array_equal(found, image)
    with pytest.raises(Refusal, match="without a decimal point"):
        pixels.from_lists(image.astype(float).tolist())


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=2), inner, max_size=28),
    max_leaves=30,
)


@given(junk, st.integers(0, 27), st.integers(0, 27))
@settings(deadline=None, max_examples=150)
def test_invalid_pixels_are_refused_at_any_position(value, row, column):
    good = type(value) is int and value in range(256)
    for pixel_rows in (value, replaced(BLANK, row, value), replaced(BLANK, row, replaced(BLANK[row], column, value))):
        try:
            found = pixels.from_lists(pixel_rows)
        except Refusal as refusal:
            refused = refusal
        else:
            assert good
            assert found.shape == (28, 28)
            continue
        assert (refused.field or "").startswith("pixels")
        json.dumps(refused.answer())


def replaced(items: list, place: int, value: object) -> list:
    return [*items[:place], value, *items[place + 1 :]]


# Limits and the API key.


@pytest.mark.parametrize("known_length", [True, False])
@pytest.mark.parametrize(("size", "status"), [(1_000, 400), (1_001, 413), (40_000, 413)])
def test_the_limit_of_a_body_applies_with_and_without_content_length(models, known_length, size, status):
    ask = Client(create_app(models, Limits(body=1_000)))

    async def parts():
        for _ in range(size // 100):
            yield b"x" * 100
        yield b"x" * (size % 100)

    content = b"x" * size if known_length else parts()
    answer = ask("POST", "/predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["detail"] == "the request body may have at most 1,000 bytes"
        assert answer.headers["connection"] == "close"


def test_requests_need_the_api_key(models):
    ask = Client(create_app(models, api_key="a key of some length"))
    assert ask.post("/predict", {"pixels": BLANK}).status_code == 401
    for wrong in ("a key of some lengtH", "", "x"):
        answer = ask.post("/predict", {"pixels": BLANK}, headers={"x-api-key": wrong})
        assert answer.status_code == 401
        assert "X-API-Key" in answer.json()["detail"]
    right = {"x-api-key": "a key of some length"}
    assert ask.post("/predict", {"pixels": BLANK}, headers=right).status_code == 200
    for path in ("/models", "/films", "/openapi.json", "/nowhere"):
        assert ask("GET", path).status_code == 401
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask("GET", path).status_code == 200, "probes need no key"
    assert ask("GET", "/").status_code != 401, "the page needs no key, since it requests the key"


def test_keys_are_compared_in_constant_time(models, monkeypatch):
    compared = []
    monkeypatch.setattr(gate.hmac, "compare_digest", lambda one, two: compared.append((one, two)) or False)
    Client(create_app(models, api_key="the right key here")).post("/maze", {}, headers={"x-api-key": "wrong"})
    assert compared == [(b"wrong", b"the right key here")]


class Waiting:
    """An application behind a gate that answers when the test sets `go`."""

    def __init__(self, **limits):
        self.go = asyncio.Event()
        self.gate = gate.Gate(self.answer, Limits(**limits), gate.Metrics())

    async def answer(self, scope, receive, send):
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.gate), base_url="http://test")


def test_requests_beyond_the_limit_are_refused_but_probes_are_not():
    async def crowd():
        waiting = Waiting(concurrency=2)
        async with waiting.client() as client:
            held = [asyncio.create_task(client.get(f"/{number}")) for number in range(2)]
            await asyncio.sleep(0.05)
            refused = await client.get("/third")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert "too many requests" in refused.json()["detail"]
            probe = asyncio.create_task(client.get("/healthz"))
            await asyncio.sleep(0.05)
            waiting.go.set()
            assert (await probe).status_code == 200
            assert [(await task).status_code for task in held] == [200, 200]
            assert (await client.get("/later")).status_code == 200, "a slot was not released"
        assert waiting.gate.running == 0

    asyncio.run(crowd())


def test_a_response_that_takes_too_long_is_cancelled():
    async def wait():
        waiting = Waiting(seconds=0.1)
        async with waiting.client() as client:
            answer = await client.get("/")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "no answer within 0.1 seconds" in answer.json()["detail"]
        assert waiting.gate.running == 0

    asyncio.run(wait())


def test_a_body_that_does_not_arrive_times_out_without_occupying_a_slot():
    async def send_slowly():
        waiting = Waiting(seconds=0.1)
        sent = []

        async def receive():
            assert waiting.gate.running == 0
            await asyncio.sleep(0.04)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message):
            sent.append(message)

        await waiting.gate({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
        assert sent[0]["status"] == 408
        assert (b"connection", b"close") in sent[0]["headers"]

    asyncio.run(send_slowly())


def test_the_total_size_of_incomplete_bodies_is_limited():
    async def crowd():
        waiting = Waiting(held=100, body=80)
        waiting.go.set()
        rest = asyncio.Event()

        async def ask(first: int, then: int) -> int:
            parts = [(first, True, None), (then, False, rest)]
            statuses = []

            async def receive():
                size, more, after = parts.pop(0)
                if after:
                    await after.wait()
                return {"type": "http.request", "body": b"x" * size, "more_body": more}

            async def send(message):
                statuses.append(message.get("status"))

            await waiting.gate({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
            return statuses[0]

        held = [asyncio.create_task(ask(40, 20)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert waiting.gate.held == 80
        assert await asyncio.wait_for(ask(21, 0), 5) == 503, "it must be refused before the rest arrives"
        small = asyncio.create_task(ask(20, 0))
        await asyncio.sleep(0.01)
        assert waiting.gate.held == 100
        rest.set()
        assert [await task for task in (*held, small)] == [503, 200, 200], (
            "the first part beyond the limit must be refused"
        )
        assert waiting.gate.held == 0

    asyncio.run(crowd())


def test_a_slow_reader_does_not_occupy_a_slot():
    async def crowd():
        waiting = Waiting(concurrency=1)
        waiting.go.set()
        read = asyncio.Event()

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def slow(message):
            if message["type"] == "http.response.body":
                await read.wait()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        held = asyncio.create_task(waiting.gate(scope, receive, slow))
        await asyncio.sleep(0.05)
        assert (waiting.gate.running, held.done()) == (0, False)
        async with waiting.client() as client:
            assert (await client.get("/second")).status_code == 200
        read.set()
        await held
        assert waiting.gate.running == 0

    asyncio.run(crowd())


def test_requests_start_in_order_a_few_per_iteration():
    async def rounds():
        turns, began = gate.Turns(2), []

        async def one(number: int) -> None:
            await turns.wait()
            began.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        sizes = []
        while len(began) < 5:
            await asyncio.sleep(0)
            sizes.append(len(began))
        assert began == [0, 2, 3, 4, 5], "a cancelled request must not delay the others"
        steps = [after - before for before, after in zip([0, *sizes], sizes, strict=False)]
        assert max(steps) <= 2
        await asyncio.wait_for(turns.wait(), 5)
        assert not turns.waiting

    asyncio.run(rounds())


def test_a_turn_of_a_closed_event_loop_is_skipped():
    turns = gate.Turns(1)

    async def ends() -> None:
        waiting.append(asyncio.create_task(turns.wait()))
        await asyncio.sleep(0)

    waiting: list[asyncio.Task] = []
    asyncio.run(ends())
    asyncio.run(asyncio.wait_for(turns.wait(), 5))


@pytest.mark.parametrize(("network", "most"), [("recurrent", 8), ("transformer", 2)])
def test_the_number_of_concurrent_texts_is_limited(ask, network, most):
    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(ask.app), base_url="http://test") as client:
            body = {"network": network, "length": 100}
            requests = [client.post("/generate", json=body) for _ in range(most + 2)]
            return await asyncio.gather(*requests)

    for _ in range(2):  # the slots are released
        answers = asyncio.run(crowd())
        assert sorted(answer.status_code for answer in answers) == [200] * most + [503] * 2
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert "too many texts are being generated" in refused[0].json()["detail"]


@pytest.mark.parametrize("after", [0, 2])
def test_a_disconnect_before_or_during_a_text_releases_its_slot(ask, after):
    async def leave() -> int:
        request = {"type": "http.request", "body": b'{"length": 1000}', "more_body": False}
        pending, parts, gone = [request], [], asyncio.Event()

        async def receive():
            if pending:
                return pending.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            parts.append(message)
            if not after:  # the client is gone before the head: the text is never started
                raise OSError("gone")
            if len(parts) > after:
                gone.set()

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/generate", "headers": headers, "query_string": b""}
        with contextlib.suppress(OSError):
            await ask.app(scope, receive, send)
        return len(parts)

    for _ in range(endpoints.TEXT_SLOTS + 1):
        assert asyncio.run(leave()) < 10, "the text was generated after the disconnect"
    assert ask.post("/generate", {"length": 1}).status_code == 200


def test_a_draining_server_answers_is_not_ready_and_closes_connections(models):
    app = create_app(models)
    ask = Client(app)
    app.state.gate.draining = True
    ready = ask("GET", "/readyz")
    assert ready.status_code == 503
    assert ready.headers["retry-after"] == "1"
    assert ask("GET", "/healthz").status_code == 200
    answer = ask.post("/predict", {"pixels": BLANK})
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


def test_an_internal_error_is_a_500_without_details(models, monkeypatch):
    app = create_app(models)
    monkeypatch.setattr(pixels, "from_lists", lambda value: 1 / 0)
    app.state.gate.log.stream = written = io.StringIO()
    ask = Client(app)
    answer = ask.post("/predict", {"pixels": BLANK})
    assert answer.status_code == 500
    assert answer.json()["detail"] == "internal error; see the server log"
    assert "ZeroDivisionError" not in answer.text
    line = json.loads(written.getvalue())
    assert (line["id"], line["status"]) == (answer.headers["x-request-id"], 500), (
        "log and response must have the same id"
    )
    assert 'requests_total{path="/predict",status="500"} 1.0' in ask("GET", "/metrics").text


# Verification of models.


@pytest.fixture
def copied(models, tmp_path):
    for suffix in ("json", "onnx"):
        shutil.copy(models / f"digits.{suffix}", tmp_path)
    return tmp_path


def change_card(folder, **changes):
    """Change a card and update its checksum, so that only the changed field is invalid."""
    path = folder / "digits.json"
    card = json.loads(path.read_text()) | changes
    card["sha256"] = checksum(card, path.with_suffix(".onnx").read_bytes())
    path.write_text(json.dumps(card))


@pytest.mark.parametrize("changed", ["digits.onnx", "digits.json"])
def test_one_checksum_covers_network_and_card(copied, changed):
    load_models(copied)
    data = bytearray((copied / changed).read_bytes())
    place = -100 if changed.endswith("onnx") else data.index(b"feedforward") + 1
    data[place] ^= 1
    (copied / changed).write_bytes(data)
    with pytest.raises(ValueError, match=r"digits\.json and digits\.onnx do not match the sha256 in the card"):
        load_models(copied)


def test_a_file_that_is_not_a_network_is_rejected(copied):
    (copied / "digits.onnx").write_bytes(b"\x80\x04\x95 cos\nsystem\n")  # the start of a pickle
    change_card(copied)
    with pytest.raises(ValueError, match="cannot be loaded by onnxruntime") as error:
        load_models(copied)
    assert "\n" not in str(error.value)


def test_weights_in_other_files_are_rejected(copied):
    model = onnx.load(copied / "digits.onnx")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, copied / "digits.onnx")
    assert (copied / "weights.bin").stat().st_size > 10**4
    change_card(copied)
    with pytest.raises(ValueError, match="cannot be loaded by onnxruntime"):
        load_models(copied)


def test_a_card_must_match_its_network(copied):
    value = {"type": "uint8", "shape": ["batch", 28, 28]}
    change_card(copied, inputs={"picture": value})
    with pytest.raises(ValueError, match=r"digits\.onnx has the inputs pixels, but its card lists picture"):
        load_models(copied)
    change_card(copied, inputs={"pixels": value}, outputs={"logits": value})
    with pytest.raises(
        ValueError, match=r"digits\.onnx has the outputs logits, probabilities, but its card lists logits"
    ):
        load_models(copied)
    change_card(copied, name="pictures")
    with pytest.raises(ValueError, match=r"is the card of 'pictures': rename it to pictures\.json"):
        load_models(copied)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "a model card must be an object, got list"),
        (b"{", "EOF while parsing"),
        (b"\xff\xfe", "is not a readable model card"),
        (b'{"name": ' + b"[" * 100_000, "recursion limit exceeded"),
        (b'{"name": NaN}', "is not a readable model card"),
        (b" " * (cards.MAX_BYTES + 1), "larger than 16,777,216 bytes"),
    ],
)
def test_an_invalid_card_is_reported_in_one_line(copied, fails, text, reason):
    (copied / "digits.json").write_bytes(text)
    error = fails(serve.main, ["--models", str(copied)])
    assert str(copied / "digits.json") in error
    assert reason in error
    assert len(error) < 500


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"serving": {}}, "serving.classes: Field required"),
        ({"serving": {"classes": []}}, "serving.classes: List should have at least 1 item"),
        ({"serving": {"classes": ["0", 1]}}, "serving.classes[1]: Input should be a valid string"),
        ({"serving": {"classes": ["0"], "more": 1}}, "serving.more: Extra inputs are not permitted"),
        ({"serving": None}, "serving: Input should be"),
        ({"inputs": None}, "inputs: Input should be an object"),
        (
            {"inputs": {"pixels": {"type": "uint8", "shape": "28"}}},
            "inputs.pixels.shape: Input should be a valid array",
        ),
        ({"metrics": {"accuracy": "high"}}, "metrics.accuracy: Input should be a valid number"),
        ({"data": {"name": "mnist"}}, "data.embedded: Field required"),
        ({"name": "films"}, "name: Input should be 'digits' or 'pictures'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_field_of_a_card_is_reported_with_the_file(copied, fails, changes, field):
    change_card(copied, **changes)
    error = fails(serve.main, ["--models", str(copied)])
    assert f"{copied / 'digits.json'}: {field}" in error
    assert "export again with" in error


MASKS = {"classes": ["a"], "colours": [[0, 0, 255]], "stride": 8, "size": None, "examples": ["aGVsbG8="]}
OBJECTS = {"classes": ["a"], "height": 64, "width": 64, "examples": ["aGVsbG8="]}


@pytest.mark.parametrize(
    ("name", "serving", "reason"),
    [
        ("text", {"symbols": ["a", "b"], "unknown": 2, "first": 0, "state_size": 1}, "unknown is 2, but there are 2"),
        ("text", {"symbols": ["a", "b"], "unknown": None, "first": 2, "state_size": 1}, "first is 2, but there are 2"),
        ("text", {"unknown": None, "first": 0, "state_size": 1}, "symbols"),
        ("films", {"titles": ["a", "b"], "counts": [1], "most_rated": 1}, "expected 2 counts, one per title, got 1"),
        ("maze", {"mazes": [["#S", "E#"]], "shortest": []}, "expected 1 shortest paths, one per maze, got 0"),
        ("maze", {"mazes": [["#S", "E"]], "shortest": [1]}, r"mazes[0] must have rows of one length"),
        ("maze", {"mazes": [["#S", "EE"]], "shortest": [1]}, r"mazes[0] must have rows of one length, one S and one E"),
        ("maze", {"mazes": [["##", "E#"]], "shortest": [1]}, r"mazes[0] must have rows of one length, one S and one E"),
        ("maze", {"mazes": [], "shortest": []}, "serving.mazes: List should have at least 1 item"),
        ("stories", {"words": ["a"], "answers": [], "memory_size": 1}, "serving.answers: List should have at least 1"),
        (
            "stories",
            {"words": ["a"], "answers": ["b"], "memory_size": 0},
            "serving.memory_size: Input should be greater",
        ),
        ("detection", OBJECTS | {"height": 0}, "serving.height: Input should be greater than or equal to 1"),
        ("detection", OBJECTS | {"examples": []}, "serving.examples: List should have at least 1 item"),
        ("detection", OBJECTS | {"examples": ["a+b"]}, "serving.examples[0]: Value error, must be base64"),
        ("segmentation", MASKS | {"colours": []}, "expected 1 colours, one per class, got 0"),
        (
            "segmentation",
            MASKS | {"colours": [[0, 0, 256]]},
            "serving.colours[0][2]: Input should be less than or equal",
        ),
        ("segmentation", MASKS | {"size": [64]}, "serving.size[1]: Field required"),
        (
            "style",
            {"stride": 0, "examples": ["aGVsbG8="]},
            "serving.stride: Input should be greater than or equal to 1",
        ),
        ("ppo", {"observation": ["a"], "actions": []}, "serving.actions: List should have at least 1 item"),
        ("dqn", {"observation": ["a"], "actions": ["b"], "x": 1}, "serving.x: Extra inputs are not permitted"),
        ("decoder", {"latent_size": 0}, "serving.latent_size: Input should be greater than or equal to 1"),
        (
            "diffusion",
            {"abar": [1.0, 0.5, 0.5], "digits": 10},
            "serving: Value error, abar must begin with 1 and decrease",
        ),
        (
            "diffusion",
            {"abar": [0.9, 0.5, 0.1], "digits": 10},
            "serving: Value error, abar must begin with 1 and decrease",
        ),
        ("diffusion", {"abar": [1.0, 0.5, 0.0], "digits": 10}, "serving.abar[2]: Input should be greater than 0"),
    ],
)
def test_inconsistent_fields_of_a_card_are_rejected(models, tmp_path, name, serving, reason):
    card = json.loads((models / f"{name}.json").read_text()) | {"serving": serving}
    (tmp_path / f"{name}.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=re.escape(reason)):
        cards.read_card(tmp_path / f"{name}.json")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("digits", {"classes": ["0", "1"]}, r"probabilities has shape (1, 10), the card requires (1, 2)"),
        ("pictures", {"classes": ["0"] * 11}, r"probabilities has shape (1, 10), the card requires (1, 11)"),
        ("decoder", {"latent_size": 3}, "cannot answer a first request"),
        ("diffusion", {"digits": 11}, "cannot answer a first request"),
        ("text", {"symbols": ["a"], "unknown": None, "first": 0}, "logits has shape"),
        ("text", {"state_size": 7}, "cannot answer a first request"),
        ("stories", {"answers": ["a"]}, "probabilities has shape"),
        ("stories", {"memory_size": 51}, "cannot answer a first request"),
        ("stories", {"words": [f"word{n}" for n in range(500)]}, "cannot answer a first request"),
        ("films", {"titles": ["a"], "counts": [1]}, "expected has shape"),
        ("detection", {"classes": ["a"]}, "the card requires (1280, 1)"),
        ("detection", {"width": 65}, "cannot answer a first request"),
        ("detection", {"examples": ["aGVsbG8="]}, "examples[0]: must be a PNG or JPEG file"),
        (
            "segmentation",
            {"classes": ["a"], "colours": [[0, 0, 0]]},
            "logits has shape (7, 8, 8), the card requires (1, 8",
        ),
        ("segmentation", {"stride": 5}, "cannot answer a first request"),
        ("style", {"stride": 3}, "cannot answer a first request"),
        ("style", {"examples": ["aGVsbG8="]}, "examples[0]: must be a PNG or JPEG file"),
        ("ppo", {"observation": ["x"]}, "cannot answer a first request"),
        ("dqn", {"actions": ["left"]}, "scores has shape (1, 2), the card requires (1, 1)"),
        ("maze", {"mazes": [["S"], ["E"]], "shortest": [1, 1]}, "must have rows of one length, one S and one E"),
    ],
)
def test_the_server_does_not_start_with_a_network_that_cannot_answer(models, tmp_path, name, changes, reason):
    """Card, graph and checksum are valid; only a first request shows that they do not match."""
    for suffix in ("json", "onnx"):
        shutil.copy(models / f"{name}.{suffix}", tmp_path)
    path = tmp_path / f"{name}.json"
    card = json.loads(path.read_text())
    card["serving"] |= changes
    card["sha256"] = checksum(card, path.with_suffix(".onnx").read_bytes())
    path.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=re.escape(reason)) as error:
        create_app(tmp_path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_every_model_has_a_card_class_and_a_trial():
    assert tuple(cards.CARDS) == tuple(trials.TRIALS) == NAMES


def test_a_missing_network_and_an_empty_folder_are_reported(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (copied / "digits.onnx").rename(copied / "digits.pt")
    with pytest.raises(FileNotFoundError, match=r"digits\.onnx is missing"):
        load_models(copied)
    with pytest.raises(FileNotFoundError, match="export some with python -m ch10_deploy"):
        load_models(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"has no model 'films': export it with .* export --models films"):
        find_card(copied, "films")
    with pytest.raises(FileNotFoundError, match=r"nothing was exported to .* export with python -m ch10_deploy.train"):
        newest_export(tmp_path)


# The command.


def test_environment_variables_are_flags_with_lower_precedence(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(serve, "serve", seen.append)
    for name, value in {
        "DEPLOY_MODELS": "there",
        "DEPLOY_PORT": "81",
        "DEPLOY_HOST": "0.0.0.0",
        "DEPLOY_X": "1",
    }.items():
        monkeypatch.setenv(name, value)
    serve.main(["--port", "82"])
    (options,) = seen
    assert (str(options.models), options.port, options.host, options.api_key_file) == ("there", 82, "0.0.0.0", None)


def test_an_empty_name_of_the_key_file_is_an_error(monkeypatch, fails):
    monkeypatch.setattr(serve, "serve", lambda options: pytest.fail("the server runs without a key"))
    monkeypatch.setenv("DEPLOY_API_KEY_FILE", "")
    assert "DEPLOY_API_KEY_FILE is empty: name the file with the key, or unset it" in fails(serve.main, [])
    assert serve.flags_of({"DEPLOY_PORT": ""}) == []


@pytest.mark.parametrize("key", [None, "a key of some length"])
def test_the_first_line_shows_models_and_whether_a_key_is_required(models, monkeypatch, tmp_path, capsys, key):
    (tmp_path / "key").write_text(key or "")
    monkeypatch.setattr(serve.Server, "run", lambda server, sockets: asyncio.run(start(server, sockets)))

    async def start(server, sockets):
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets)
        await server.shutdown(sockets)

    serve.main(["--models", str(models), "--port", "0", *(["--api-key-file", str(tmp_path / "key")] if key else [])])
    (line,) = capsys.readouterr().out.splitlines()
    how = "API key required" if key else "no API key required"
    assert line.startswith(f"serving  {', '.join(NAMES)} from {models} ({how}) at http://127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port must be between 0 and 65535, got 70000"),
        (["--port", "65536"], "--port must be between 0 and 65535, got 65536"),
        (["--timeout", "0"], "--timeout must be a number above 0"),
        (["--connections", "0"], "--connections must be a number above 0"),
        (["--concurrency", "0"], "--concurrency must be a number above 0"),
        (["--max-body", "0"], "--max-body must be a number above 0"),
        (["--drain-seconds", "-1"], "--drain-seconds must not be negative"),
        (["--prot", "1"], "did you mean --port?"),
        (["--models", "nowhere"], "there are no exported models in nowhere"),
        (["--out", "nowhere"], "nothing was exported to nowhere yet: export with"),
    ],
)
def test_a_user_error_is_one_line(fails, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in fails(serve.main, words)


def test_a_key_must_be_long_enough(fails, models, tmp_path):
    (tmp_path / "key").write_text("short\n")
    words = ["--models", str(models), "--api-key-file", str(tmp_path / "key")]
    error = fails(serve.main, words)
    assert "must have at least 16 characters, got 5" in error
    assert "short" not in error
    (tmp_path / "key").write_text("sixteen letters!\n")
    assert serve.read_key(tmp_path / "key") == "sixteen letters!"
    (tmp_path / "key").write_text("fifteen letters\n")
    with pytest.raises(ValueError, match="at least 16 characters, got 15"):
        serve.read_key(tmp_path / "key")


def test_a_port_in_use_is_reported_in_one_line(fails, models):
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        words = ["--models", str(models), "--port", str(port)]
        assert f"cannot listen on 127.0.0.1:{port} (" in fails(serve.main, words)


@pytest.fixture(scope="module")
def server(models):
    with running(models, "--drain-seconds", "0", "--timeout", "2") as found:
        yield found


def test_the_server_starts_in_time(server):
    assert server.seconds < 20, "it takes one or two seconds on a quiet machine"
    assert httpx.get(f"{server.url}/readyz").json()["status"] == "ready"


def test_a_text_is_streamed(server):
    with httpx.stream("POST", f"{server.url}/generate", json={"length": 2000}) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        parts = list(answer.iter_text())
    assert len("".join(parts)) == 2000
    assert len(parts) > 10


def test_a_disconnect_during_a_text_stops_its_generation(server):
    for _ in range(5):
        with httpx.stream("POST", f"{server.url}/generate", json={"length": 2000}) as answer:
            next(answer.iter_bytes(1))
    deadline = time.monotonic() + 5
    while (
        busy := "requests_running 0.0" not in httpx.get(f"{server.url}/metrics").text
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not busy, "a text is still being generated"


def test_a_client_can_read_the_error_after_sending_a_body_that_is_too_large(server):
    answer = httpx.post(f"{server.url}/predict", content=b"x" * 3_000_000)
    assert answer.status_code == 413


def test_incomplete_requests_time_out(server):
    host, port = server.url.removeprefix("http://").split(":")
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        socket.create_connection((host, int(port)), timeout=10) as body,
        socket.create_connection((host, int(port)), timeout=10) as head,
        socket.create_connection((host, int(port)), timeout=10) as second,
        socket.create_connection((host, int(port)), timeout=10) as silent,
        socket.create_connection((host, int(port)), timeout=10) as patient,
    ):
        body.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        head.sendall(b"POST /predict HTTP/1.1\r\nHo")
        for connection in (second, patient):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(10_000)
        second.sendall(request[:-2])
        assert body.recv(10_000).startswith(b"HTTP/1.1 408 ")
        for connection in (head, second, silent):
            assert connection.recv(10_000) == b"", "the connection was not closed"
        patient.sendall(request)
        assert patient.recv(10_000).startswith(b"HTTP/1.1 200 "), "an idle connection must stay open"


def test_a_server_that_does_not_start_is_an_error_with_its_output(tmp_path, monkeypatch):
    message = rf"did not start \(exit code 2\): error: there are no exported models in {tmp_path}"
    with pytest.raises(ChildProcessError, match=message), running(tmp_path):
        pass
    monkeypatch.setattr(runner, "PATIENCE", 0.01)  # before Python itself has started
    with pytest.raises(ChildProcessError, match=r"did not start \(exit code -9\): no output"), running(tmp_path):
        pass
