"""Captioned scenes: what is true of them, what they show, how they are split; Flickr8k's files."""

import itertools
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.data import source
from common.data.captions import loading
from common.data.captions.captioned import read_image
from common.data.captions.flickr8k import normalise
from common.data.captions.grammar import PLACES, RELATIONS, Kind, captions_of, is_true, parse
from common.data.captions.loading import draw_split, load_captions, load_scenes
from common.data.captions.scenes import (
    CLEAR,
    COLOURS,
    RADII,
    SHAPE_NAMES,
    SIZE,
    SceneObject,
    draw_scene,
    render,
    split_combinations,
)

WORDS = {"size": tuple(RADII), "colour": tuple(COLOURS), "shape": SHAPE_NAMES}
ALL = [combination for part in split_combinations() for combination in part]
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}

scenes = st.integers(0, 10**6).map(lambda seed: draw_scene(ALL, random.Random(seed)))


def exchange(caption: str, words: str, others: str) -> str:
    """The caption with the first occurrence of these words replaced."""
    return f" {caption} ".replace(f" {words} ", f" {others} ", 1).strip()


@settings(max_examples=60, deadline=None)
@given(scenes)
def test_every_caption_of_a_scene_is_true(scene):
    captions = captions_of(scene)
    assert len(set(captions)) == len(captions)
    assert len(captions) == 10 * sum(abs(a - b) > CLEAR for a, b in zip(*((s.x, s.y) for s in scene), strict=True)) > 0
    assert all(is_true(caption, scene) for caption in captions)


@settings(max_examples=60, deadline=None)
@given(scenes, st.data())
def test_a_changed_word_makes_a_caption_false(scene, data):
    caption = data.draw(st.sampled_from(captions_of(scene)))
    words = caption.split()
    place = data.draw(
        st.sampled_from([n for n, word in enumerate(words) if any(word in its for its in WORDS.values())])
    )
    others = next(its for its in WORDS.values() if words[place] in its)
    words[place] = data.draw(st.sampled_from([word for word in others if word != words[place]]))
    assert parse(" ".join(words)) is not None
    assert not is_true(" ".join(words), scene)


@settings(max_examples=60, deadline=None)
@given(scenes, st.data())
def test_the_opposite_side_makes_a_caption_false(scene, data):
    caption = data.draw(st.sampled_from(captions_of(scene)))
    claim = parse(caption)
    assert claim is not None
    for table in (RELATIONS, PLACES):
        here = [words for words, side in table.items() if side == claim.side and f" {words} " in f" {caption} "]
        for words, other in itertools.product(here, [o for o, side in table.items() if side == OPPOSITE[claim.side]]):
            changed = exchange(caption, words, other)
            if parse(changed) is not None:  # `to the left of` contains `left of`
                assert not is_true(changed, scene)


@settings(max_examples=150, deadline=None)
@given(scenes, st.sampled_from(sorted(RELATIONS)), st.booleans(), st.integers(0, 10**6))
def test_truth_is_what_the_words_say(scene, relation, verb, seed):
    """A sentence of random words, mostly those of the scene, against the places of the objects."""
    rng = random.Random(seed)
    kinds = []
    for each in rng.sample(scene, 2):
        kinds.append([w if rng.random() < 0.9 else rng.choice(WORDS[k]) for k, w in Kind.of(each)._asdict().items()])
    caption = f"a {' '.join(kinds[0])} {'is ' * verb}{relation} a {' '.join(kinds[1])}"
    expected = False
    for one, other in ((0, 1), (1, 0)):
        a, b = scene[one], scene[other]
        if [a.size, a.colour, a.shape] == kinds[0] and [b.size, b.colour, b.shape] == kinds[1]:
            if "left" in relation:
                expected = a.x < b.x
            elif "right" in relation:
                expected = a.x > b.x
            else:
                expected = a.y < b.y if relation in ("above", "over") else a.y > b.y
    assert is_true(caption, scene) == expected


def test_captions_by_hand():
    scene = (SceneObject("small", "red", "disc", 5, 20, 4), SceneObject("large", "blue", "star", 20, 17, 7))
    assert captions_of(scene) == [
        "a small red disc left of a large blue star",
        "a small red disc to the left of a large blue star",
        "a small red disc is left of a large blue star",
        "a small red disc is to the left of a large blue star",
        "a large blue star with a small red disc on its left",
        "a large blue star right of a small red disc",
        "a large blue star to the right of a small red disc",
        "a large blue star is right of a small red disc",
        "a large blue star is to the right of a small red disc",
        "a small red disc with a large blue star on its right",
    ]
    assert is_true("a large blue star is over a small red disc", scene), "by three pixels, which no caption mentions"
    assert not is_true("a large blue star is under a small red disc", scene)
    assert not is_true("a small red disc with a large blue star on its left", scene)
    assert parse("a small red disc with a large blue star on its right") == (
        ("large", "blue", "star"), "right", ("small", "red", "disc"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a small red disc",
        "a red disc left of a large blue star",
        "small red disc left of a large blue star",
        "a small red disc left a large blue star",
        "a small red disc left of a large blue star .",
        "a small red disc with a large blue star left of",
        "a small red disc is with a large blue star on its left",
        "the small red disc left of a large blue star",
        "a small red disc left of a large blue star left of a large blue star",
    ],
)
def test_what_is_not_in_the_grammar_is_not_true(caption):
    assert parse(caption) is None
    assert not is_true(caption, draw_scene(ALL, random.Random(0)))


def test_splits_share_no_held_out_combination():
    train, valid, held_out = map(set, split_combinations())
    assert len(train) == 40 and len(valid) == len(held_out) == 4
    assert not train & valid and not train & held_out and not valid & held_out
    for colour in COLOURS:
        assert len({shape for its, shape in train if its == colour}) == len(SHAPE_NAMES) - 1
    for shape in SHAPE_NAMES:
        assert len({colour for colour, its in train if its == shape}) >= len(COLOURS) - 2
    data = load_scenes(limit=200)
    assert data.held_out is not None
    for split, expected in ((data.train, train), (data.valid, valid), (data.test, train), (data.held_out, held_out)):
        assert {(each.colour, each.shape) for scene in split.scenes for each in scene} == expected


def test_objects_fit_and_do_not_overlap():
    for seed in range(300):
        one, other = draw_scene(ALL, random.Random(seed))
        for each in (one, other):
            assert RADII[each.size][0] <= each.radius <= RADII[each.size][1]
            assert each.radius <= min(each.x, each.y) and max(each.x, each.y) <= SIZE - each.radius
        assert (one.x - other.x) ** 2 + (one.y - other.y) ** 2 > (one.radius + other.radius) ** 2
        assert (one.colour, one.shape) != (other.colour, other.shape)


@pytest.mark.parametrize("size", [32, 64])
def test_pixels_show_the_objects_where_they_are(size):
    data = draw_split([each for each in ALL if each[1] != "ring"], 100, 1, size=size)
    assert data.pixels.shape == (100, 3, size, size) and data.pixels.dtype == torch.uint8
    for image, scene in zip(data.pixels.float() / 255, data.scenes, strict=True):
        for each in scene:
            x, y = (int(place * size / SIZE) for place in (each.x, each.y))
            around = image[:, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))
            colours = {name: float((around - torch.tensor(paint)).norm()) for name, paint in COLOURS.items()}
            assert min(colours, key=lambda name: colours[name]) == each.colour
        far = torch.tensor([[n, m] for n, m in ((1, 1), (1, 30), (30, 1), (30, 30))])
        for m, n in far.tolist():
            if all((n - each.x) ** 2 + (m - each.y) ** 2 > (each.radius + 3) ** 2 for each in scene):
                corner = image[:, m * size // 32, n * size // 32]
                assert corner.max() - corner.min() < 0.4, "the background is grey"


def test_shapes_stand_upright():
    up = (SceneObject("large", "red", "triangle", 16, 16, 7), SceneObject("small", "red", "disc", 3.9, 3.9, 3.9))
    image = render([up], torch.Generator().manual_seed(0))[0].float()
    red = (image[0] - image[1] > 60)[:, 8:].sum(1)  # pixels of the triangle in each row
    assert red[11] < red[16] < red[18], "the apex of a triangle is its upper end"


def test_scenes_are_the_same_every_time():
    one, other = load_scenes(limit=20), load_scenes(limit=20)
    assert one.card == other.card and torch.equal(one.train.pixels, other.train.pixels)
    assert one.card.description == "20 train, 20 valid, 20 test, 20 held out, embedded, drawn here"
    assert not torch.equal(one.train.pixels, one.test.pixels), "the same combinations, but other scenes"
    assert all(len(its) == loading.PER_IMAGE for its in one.train.captions)
    assert all(its == captions_of(scene) for its, scene in zip(one.test.captions, one.test.scenes, strict=True))
    part = one.train[:3]
    assert len(part) == len(part.captions) == len(part.scenes) == 3


# Flickr8k.


def put_flickr8k(count=20, *, layout="table", splits=True, size=(40, 30)):
    """Write photographs of one colour, each with two captions, in one of the layouts."""
    folder = source.data_dir() / "flickr8k"
    (folder / "Images").mkdir(parents=True)
    names = [f"{n}_a.jpg" for n in range(count)]
    for n, name in enumerate(names):
        Image.new("RGB", size, (10 * n % 256, 100, 50)).save(folder / "Images" / name)
    rows = [(name, k, f"A Dog , number {n} , runs {k} .") for n, name in enumerate(names) for k in range(2)]
    if layout == "table":
        text = "image,caption\n" + "".join(f'{name},"{caption}"\n' for name, _, caption in rows)
        (folder / "captions.txt").write_text(text)
    else:
        text = "".join(f"{name}#{k}\t{caption}\n" for name, k, caption in rows)
        (folder / "Flickr8k.token.txt").write_text(text + "absent.jpg.1#0\tAn image that is not there .\n")
    if splits:
        for split, its in (("train", names[4:]), ("dev", names[:2]), ("test", names[2:4])):
            (folder / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{name}\n" for name in its))
    return folder


@pytest.mark.parametrize("layout", ["table", "tokens"])
def test_flickr8k_is_read_in_both_layouts(layout):
    put_flickr8k(layout=layout)
    data = load_captions("flickr8k", size=16)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [16, 2, 2]
    assert data.held_out is None and data.train.scenes == []
    assert data.valid.captions[1] == ["a dog number 1 runs 0", "a dog number 1 runs 1"]
    assert data.valid.pixels.shape == (2, 3, 16, 16)
    assert (data.valid.pixels[1].float().mean((1, 2)) - torch.tensor([10.0, 100, 50])).abs().max() < 4
    assert data.card.name == "flickr8k (partial: 16 of 6,000 train images)"
    assert data.card.description.startswith("16 train, 2 valid, 2 test, from ")
    limited = load_captions("flickr8k", size=16, limit=2)
    assert torch.equal(limited.train.pixels, data.train.pixels[:2]) and limited.card.name == data.card.name


def test_flickr8k_without_split_files_is_split_by_image():
    put_flickr8k(layout="tokens", splits=False)
    data = load_captions("flickr8k", size=8)
    splits = (data.train, data.valid, data.test)
    assert [len(split) for split in splits] == [16, 2, 2]
    assert len({captions[0] for split in splits for captions in split.captions}) == 20


def test_captions_are_lower_case_words():
    assert normalise(" A man 's T-shirt , isn't  RED . ") == "a man s t-shirt isn't red"


def broken(name, text):
    def change(folder):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("captions.txt"), "flickr8k has neither captions.txt nor Flickr8k.token.txt"),
        (without("Images/7_a.jpg"), "7_a.jpg does not exist"),
        (without("Flickr_8k.devImages.txt"), "lacks Flickr_8k.devImages.txt: put all three split files there, or none"),
        (broken("captions.txt", "name,text\n"), "starts with 'name,text': its first line must be image,caption"),
        (broken("captions.txt", "image,caption\n"), "captions.txt holds no captions"),
        (broken("captions.txt", ""), "captions.txt holds no captions"),
        (broken("captions.txt", "image,caption\na.jpg\n"), "line 2 is not an image, a comma and a caption"),
        (broken("captions.txt", 'image,caption\na.jpg,"A dog\nb.jpg,A\n'), "is not an image, a comma and a caption"),
        (broken("captions.txt", b"image,caption\na.jpg,\xff\n"), "is not UTF-8: byte 20 cannot be decoded"),
        (broken("Flickr_8k.testImages.txt", "2_a.jpg\nx.jpg\n"), "testImages.txt line 2: 'x.jpg' has no caption"),
        (broken("Flickr_8k.testImages.txt", "\n"), "Flickr_8k.testImages.txt names no image"),
        (broken("Images/7_a.jpg", b"not a picture"), "7_a.jpg cannot be read as an image"),
    ],
)  # fmt: skip
def test_a_broken_flickr8k_is_named(change, message):
    change(put_flickr8k())
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)):
        load_captions("flickr8k", size=8)


def test_other_broken_layouts_are_named():
    with pytest.raises(source.DataUnavailable, match=r"put Flickr8k's Images/ and captions.txt there, set DATA_DIR"):
        load_captions("flickr8k")
    folder = put_flickr8k(3, layout="tokens", splits=False)
    with pytest.raises(ValueError, match="holds 3 images with captions; at least 8 are needed"):
        load_captions("flickr8k", size=8)
    broken("Flickr8k.token.txt", "a.jpg\tA dog .\n")(folder)
    with pytest.raises(ValueError, match=r"line 1 is 'a.jpg.tA dog .': a line is image#number, a tab and a caption"):
        load_captions("flickr8k", size=8)


def test_an_image_file_is_cropped_and_resized(tmp_path):
    image = Image.new("RGB", (60, 20), (255, 0, 0))
    image.paste((0, 0, 255), (20, 0, 40, 20))  # the central square is blue
    image.save(tmp_path / "wide.png")
    pixels = read_image(tmp_path / "wide.png", 10)
    assert pixels.shape == (3, 10, 10) and pixels.dtype == torch.uint8
    assert pixels[:, 5, 5].tolist() == [0, 0, 255] and (pixels[2, :, 1:-1] > 200).all()
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png", 8) == 7).all()
    with pytest.raises(FileNotFoundError, match=r"no.png does not exist: give an image file"):
        read_image(tmp_path / "no.png", 8)
    large = tmp_path / "large.png"
    Image.new("1", (20_000, 10_000)).save(large)  # few bytes, many pixels
    with pytest.raises(ValueError, match=r"large.png cannot be read as an image"):
        read_image(large, 8)
