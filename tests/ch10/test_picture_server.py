"""The endpoints that take pictures: responses, files and settings that are refused, limits."""

import asyncio
import base64
import io
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, PngImagePlugin

from ch10.test_server import Client, png_of, upload
from ch10_deploy.attack.attacks import png
from ch10_deploy.inference import picture_files
from ch10_deploy.inference.models import load_model
from ch10_deploy.inference.object_detection import ObjectDetector
from ch10_deploy.inference.segmentation import Segmenter
from ch10_deploy.inference.style import Stylist
from ch10_deploy.server import pictures
from ch10_deploy.server.app import create_app


@pytest.fixture(scope="module")
def ask(models) -> Client:
    return Client(create_app(models))


def picture(width: int = 90, height: int = 60) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def jpeg_of(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Write another size into the header of a JPEG file."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[place + 4 :]


# Detection.


def test_the_objects_of_a_picture_are_detected(ask, models):
    answer = ask("POST", "/detect?threshold=0.1", **upload(png_of(picture()))).json()
    expected = ObjectDetector(load_model(models / "detection.json")).detect(picture(), 0.1)
    assert answer == expected
    assert (answer["model"], answer["width"], answer["height"]) == ("detection", 90, 60)
    scores = [each["score"] for each in answer["detections"]]
    assert scores == sorted(scores, reverse=True) and min(scores) >= 0.1
    assert {each["label"] for each in answer["detections"]} <= set(answer["classes"])
    for left, top, right, bottom in (each["box"] for each in answer["detections"]):
        assert 0 <= left < right <= 90 and 0 <= top < bottom <= 60
    by_default = ask("POST", "/detect", **upload(png_of(picture()))).json()
    assert by_default["detections"] == [each for each in answer["detections"] if each["score"] >= 0.5]
    between = (scores[3] + scores[4]) / 2
    assert len(ask("POST", f"/detect?threshold={between:.9f}", **upload(png_of(picture()))).json()["detections"]) == 4
    assert ask("POST", "/detect?threshold=1", **upload(png_of(picture()))).json()["detections"] == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_usual_kind_of_file_is_read(ask, mode):
    image = picture().convert(mode)
    files = [png_of(image), *([jpeg_of(image, quality=95)] if mode in ("L", "RGB") else [])]
    for file in files:
        found = picture_files.from_file(file)
        assert found.mode == "RGB"
        np.testing.assert_allclose(np.asarray(found, int), np.asarray(image.convert("RGB"), int), atol=40)
        assert ask("POST", "/detect", **upload(file)).status_code == 200


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 4_000), (1920, 1080)])
def test_pictures_of_extreme_proportions_are_resized(ask, width, height):
    answer = ask("POST", "/detect?threshold=0", **upload(jpeg_of(Image.new("RGB", (width, height)))))
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == (width, height)


def test_examples_are_pictures_of_the_test_set(ask, models):
    examples = [ask("GET", "/example", params={"model": "detection", "number": number}) for number in (0, 1, 8)]
    assert examples[0].headers["content-type"] == "image/png"
    assert picture_files.from_file(examples[0].content).size == (64, 64)
    assert examples[0].content == examples[2].content != examples[1].content, "there are eight"
    assert ask("GET", "/example?model=detection").content == examples[0].content


# Segmentation.


def test_a_picture_is_segmented(ask, models):
    answer = ask("POST", "/segment", **upload(png_of(picture()))).json()
    assert answer == Segmenter(load_model(models / "segmentation.json")).segment(picture())
    assert (answer["model"], answer["width"], answer["height"]) == ("segmentation", 90, 60)
    assert answer["classes"][:2] == ["background", "disc"] and sum(answer["shares"]) == pytest.approx(1)
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as mask:
        assert (mask.size, mask.mode, mask.format) == ((90, 60), "P", "PNG")
        counts = np.bincount(np.asarray(mask).ravel(), minlength=7)
    assert answer["shares"] == (counts / 5_400).tolist()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (512, 512), (32_768, 1)])
def test_pictures_of_extreme_proportions_are_segmented(ask, width, height):
    answer = ask("POST", "/segment", **upload(png(width, height, 0, bytes((width + 1) * height))))
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == (width, height)


def test_a_picture_that_keeps_its_size_has_a_lower_limit(ask):
    for size, shown in (((513, 512), "513 x 512"), ((32_769, 1), "32,769 x 1")):
        file = png_of(Image.new("L", size))
        answer = ask("POST", "/segment", **upload(file))
        assert answer.status_code == 422
        rule = "a picture may have at most 262,144 pixels, its sides rounded up to multiples of 8"
        assert answer.json()["detail"] == f"file: {rule}, got {shown}: reduce its size"
        assert ask("POST", "/detect", **upload(file)).status_code == 200


# Style.


@pytest.mark.parametrize(("width", "height"), [(90, 60), (1, 1), (512, 512)])
def test_a_picture_gets_the_style_of_the_network(ask, models, width, height):
    answer = ask("POST", "/stylise", **upload(png_of(picture(width, height))))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as stylised:
        expected = Stylist(load_model(models / "style.json")).pixels(picture(width, height))
        assert np.array_equal(np.asarray(stylised), expected)
    assert ask("GET", "/example?model=style").headers["content-type"] == "image/png"


# Invalid requests.


def many_scans() -> bytes:
    """Encode a JPEG file with one marker of a scan more than is allowed; here they are in a comment."""
    return jpeg_of(picture(), comment=picture_files.SCAN * picture_files.MAX_SCANS)


BROKEN = [
    (b"", "must be a PNG or JPEG file"),
    (b"hello", "must be a PNG or JPEG file"),
    (png_of(picture(), "GIF"), "must be a PNG or JPEG file"),
    (png_of(picture())[:400], "not a readable PNG file"),
    (png(64, 64, 2, b"x" * 100), "not a readable PNG file"),
    (jpeg_of(picture())[:400], "not a readable JPEG file"),
    (b"\xff\xd8\xff", "not a readable JPEG file"),
    (png_of(Image.new("I;16", (28, 28))), "must be grey or RGB with 8 bits per channel, got mode I;16"),
    (jpeg_of(picture().convert("CMYK")), "must be grey or RGB with 8 bits per channel, got mode CMYK"),
    (many_scans(), "a JPEG file may have at most 64 scans, got 65"),
]


@pytest.mark.parametrize("path", ["/detect", "/segment", "/stylise"])
@pytest.mark.parametrize(("data", "reason"), BROKEN)
def test_a_file_that_is_not_a_picture_is_refused(ask, path, data, reason):
    answer = ask("POST", path, **upload(data))
    assert answer.status_code == 422
    assert reason in answer.json()["detail"] and answer.json()["field"] == "file"


@pytest.mark.parametrize(
    "data",
    [
        png(30_000, 30_000, 2, bytes(10**5)),
        png(2**21 + 1, 1, 0, b""),
        with_size(jpeg_of(picture()), 30_000, 30_000),
    ],
)
def test_a_large_picture_is_refused_before_it_is_decoded(ask, data, monkeypatch):
    for kind in (PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile):
        monkeypatch.setattr(kind, "load", lambda _: pytest.fail("it is decoded"))
    began = time.perf_counter()
    answer = ask("POST", "/detect", **upload(data))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("file: a picture may have at most 2,097,152 pixels, got ")
    assert "\n" not in answer.json()["detail"]
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"threshold={text}", "threshold") for text in ("x", "-0.1", "1.1", "nan", "inf", "1e-1", "", "0,5", ".5")),
        ("threshold=0.5&threshold=x", "threshold"),
        ("treshold=0.5", "treshold"),
    ],
)
def test_an_invalid_threshold_is_refused(ask, query, field):
    answer = ask("POST", f"/detect?{query}", **upload(png_of(picture())))
    assert answer.status_code == 422
    assert answer.json()["field"] == field and answer.json()["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("query", ["", "model=digits", "model=detection&number=-1", "model=detection&number=1.0"])
def test_an_invalid_choice_of_an_example_is_refused(ask, query):
    answer = ask("GET", f"/example?{query}")
    assert answer.status_code == 422
    assert answer.json()["field"] in ("model", "number")


def test_the_description_lists_file_and_threshold(ask):
    described = ask("GET", "/openapi.json").json()["paths"]["/detect"]["post"]
    (threshold,) = described["parameters"]
    assert (threshold["name"], threshold["in"], threshold["required"]) == ("threshold", "query", False)
    schema = described["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert [*schema["properties"]] == ["file"]


@pytest.mark.parametrize(("path", "most"), [("/detect", 8), ("/segment", 4), ("/stylise", 2)])
def test_the_number_of_concurrent_pictures_is_limited(ask, path, most, monkeypatch):
    go, threads = threading.Event(), set()

    def waiting(data: bytes, limit: picture_files.SizeLimit) -> Image.Image:
        threads.add(threading.current_thread())
        assert go.wait(10)
        return picture()

    monkeypatch.setattr(pictures, "from_file", waiting)

    async def crowd() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(ask.app), base_url="http://test") as client:
            tasks = [asyncio.create_task(client.post(path, **upload(b"x"))) for _ in range(most + 2)]
            while sum(task.done() for task in tasks) < 2:
                await asyncio.sleep(0.01)
            refused = [task.result() for task in tasks if task.done()]
            assert all(answer.headers["retry-after"] == "1" for answer in refused)
            assert "too many pictures are being computed at once" in refused[0].json()["detail"]
            probe = await client.get("/healthz")
            assert probe.status_code == 200, "the event loop is not blocked"
            go.set()
            return sorted([(await task).status_code for task in tasks])

    for _ in range(2):  # the slots are released
        go.clear()
        assert asyncio.run(crowd()) == [200] * most + [503] * 2
    assert len(threads) == 1 and threading.main_thread() not in threads, "one picture is computed at a time"


def test_metrics_count_pictures(models):
    ask = Client(create_app(models))
    ask("POST", "/detect", **upload(png_of(picture())))
    ask("POST", "/detect", **upload(b""))
    text = ask("GET", "/metrics").text
    assert 'requests_total{path="/detect",status="200"} 1.0' in text
    assert 'requests_total{path="/detect",status="422"} 1.0' in text
