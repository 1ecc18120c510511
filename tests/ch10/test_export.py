"""Exports: outputs equal the originals' on new inputs, and exports that differ are not written."""

import base64
import hashlib
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ch03_autoencoder_rbm import recommend
from ch03_autoencoder_rbm.digits import feedforward
from ch03_autoencoder_rbm.films import recommender
from ch05_rnn import ask
from ch05_rnn.language import language_model, sampling
from ch05_rnn.memory import encoding, memory_network, visualise
from ch06_cnn import detect, segment
from ch06_cnn.convolution import cnn
from ch06_cnn.detection import detection, evaluation
from ch06_cnn.segmentation import segmentation
from ch06_cnn.style import fast_style, network
from ch07_dqn.agents import dqn, ppo
from ch07_dqn.agents.evaluation import greedy
from ch07_dqn.agents.vector_environment import task_of
from ch07_dqn.mazes.one_maze import greedy_path
from ch07_dqn.planning import generalise
from ch08_vae.autoencoding import vae
from ch08_vae.diffusion import diffusion
from ch08_vae.diffusion.sampling import Sampler, denoise
from ch10_deploy.exporting import export, graphs, picture_graphs, policy_graphs
from ch10_deploy.exporting.sources import SOURCES
from ch10_deploy.inference import cards, object_detection, question_answering
from ch10_deploy.inference import generation as writing
from ch10_deploy.inference.agents.balancing import Balancer
from ch10_deploy.inference.cards import checksum
from ch10_deploy.inference.drawing.denoising import Denoiser
from ch10_deploy.inference.generation import TextGenerator
from ch10_deploy.inference.models import NAMES, Model, load_model, load_models
from ch10_deploy.inference.object_detection import ObjectDetector
from ch10_deploy.inference.picture_files import from_file
from ch10_deploy.inference.planning import MazePlanner
from ch10_deploy.inference.question_answering import Reader
from ch10_deploy.inference.recommendation import FilmRecommender
from ch10_deploy.inference.segmentation import Segmenter, enlarged
from ch10_deploy.inference.style import Stylist
from common.config import read_config, to_json
from common.data.mazes.maze import carve, letters, parse_maze
from common.data.text import stories
from common.data.text.stories import Question, load_stories
from common.data.text.vocabulary import Vocabulary
from conftest import ROOT
from make_models import export_all


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The folder of the exports of the networks in `trained`."""
    return export_all(trained, tmp_path_factory.mktemp("exported"))


@pytest.fixture
def run_of(trained):
    """Return a function that finds the run from which a network was exported."""

    def find(name: str):
        return SOURCES[name].newest(trained)

    return find


def test_all_networks_are_exported_within_the_tolerance(exported):
    assert sorted(path.name for path in exported.iterdir()) == sorted(
        f"{name}.{suffix}" for name in NAMES for suffix in ("json", "md", "onnx")
    )
    for name, model in load_models(exported).items():
        parity = model.card.parity
        assert 0 <= parity.onnx <= 1e-5, name
        assert 0 <= parity.program <= 1e-5, name
        assert parity.tolerance == 1e-5


def structure(folder: Path, name: str) -> dict[str, Any]:
    """Describe a model without its weights: fields of the card, inputs and outputs of the graph, operator sets."""
    card = json.loads((folder / f"{name}.json").read_text())
    model = onnx.load(folder / f"{name}.onnx")
    values = {"inputs": model.graph.input, "outputs": model.graph.output}
    return {
        "fields": {
            field: sorted(value) for field, value in card.items() if isinstance(value, dict) and field != "metrics"
        },
        "card": {field: card[field] for field in ("name", "chapter", "program", "inputs", "outputs")},
        "graph": {
            side: [(each.name, each.type.tensor_type.elem_type) for each in found] for side, found in values.items()
        },
        "operator sets": {each.domain: each.version for each in model.opset_import},
    } | {"other fields": sorted(card)}


@pytest.mark.parametrize("name", NAMES)
def test_the_models_of_the_server_tests_are_up_to_date(models, exported, name):
    """If they are not: `python tests/make_models.py`."""
    old, new = structure(models, name), structure(exported, name)
    if json.loads((models / f"{name}.json").read_text())["versions"]["torch"] != torch.__version__:
        new["operator sets"] = old["operator sets"]  # another exporter may choose another version
    assert old == new
    assert (models / f"{name}.onnx").stat().st_size < 250_000, "these files are in the repository"


def test_the_server_tests_have_all_models(models):
    assert {path.name for path in models.iterdir()} == {f"{name}.{end}" for name in NAMES for end in ("json", "onnx")}


def assert_close(found: np.ndarray, expected: torch.Tensor, atol: float = 1e-5):
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_digits_equal_the_original_for_any_batch_size(exported, run_of, count):
    pixels = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    answer = load_model(exported / "digits.json")(pixels=pixels.numpy())
    expected = feedforward.predict(feedforward.restore(run_of("digits"))[0], pixels.unsqueeze(1))
    assert_close(answer["logits"], expected)
    assert_close(answer["probabilities"], expected.softmax(1))


def test_pictures_equal_the_original_with_channels_last(exported, run_of):
    pixels = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    answer = load_model(exported / "pictures.json")(pixels=pixels.numpy())
    expected = cnn.predict(cnn.restore(run_of("pictures"))[0], pixels.permute(0, 3, 1, 2))
    assert_close(answer["logits"], expected)
    assert_close(answer["probabilities"], expected.softmax(1))


def test_decoded_images_equal_the_original_in_grey_levels(exported, run_of):
    latent = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    answer = load_model(exported / "decoder.json")(latent=latent.numpy())
    logits = vae.restore(run_of("decoder"))[0].decode(latent)
    assert_close(answer["logits"], logits)
    assert_close(answer["pixels"], 255 * logits.sigmoid().view(3, 28, 28), atol=1e-3)
    assert float(answer["pixels"].max()) <= 255


@pytest.mark.parametrize("count", [1, 2, 5])
def test_predicted_noise_equals_the_original_for_any_batch_size(exported, run_of, count):
    model, schedule, _ = diffusion.restore(run_of("diffusion"))
    images = torch.randn(count, 28, 28, generator=torch.Generator().manual_seed(count))
    times, classes = torch.arange(count) * 200 + 1, torch.arange(count) + 6  # 10 means no class
    loaded = load_model(exported / "diffusion.json")
    answer = loaded(images=images.numpy(), times=times.numpy(), classes=classes.numpy())
    assert_close(answer["noise"], model(images.unsqueeze(1), times, classes).squeeze(1))
    assert loaded.serving.abar == schedule.abar.tolist() and loaded.serving.digits == 10


def test_a_film_of_the_server_equals_the_steps_of_chapter_8(exported, run_of):
    model, schedule, _ = diffusion.restore(run_of("diffusion"))
    film = Denoiser(load_model(exported / "diffusion.json")).denoise(3, 2.5, 6, 5)
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((28, 28))).float().view(1, 1, 28, 28)
    path = list(denoise(model, schedule, x, torch.tensor([3]), Sampler(steps=6, guidance=2.5), no_class=10))
    assert film["times"] == [schedule.steps, *(t for t, _, _ in path)]
    assert (len(film["images"]), len(film["predicted"])) == (7, 6)

    def levels(images):
        return (255 * (images.view(28, 28) + 1) / 2).clamp(0, 255).numpy()

    assert np.abs(levels(x) - film["images"][0]).max() <= 0.5
    for step, (_, state, predicted) in enumerate(path):
        assert np.abs(levels(state) - film["images"][step + 1]).max() <= 1
        assert np.abs(levels(predicted) - film["predicted"][step]).max() <= 1


def test_runs_on_colour_images_or_without_classes_are_not_exported(tmp_path):
    source = SOURCES["diffusion"]
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"data": "mnist"}, True),
        ({"data": "shapes"}, False),
        ({"condition": "none"}, False),
    ]
    for number, (changes, suits) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        record = {"config": to_json(diffusion.Config(**changes))}
        (folder / "config.json").write_text(json.dumps(record))
        assert source.suits(folder) == suits


@pytest.mark.parametrize("name", ["text", "transformer"])
def test_a_text_at_temperature_zero_equals_the_original(exported, run_of, name):
    """The Transformer's is longer than its context, so the oldest keys and values leave the cache."""
    model, vocabulary, config = language_model.restore(run_of(name))
    generator = TextGenerator(load_model(exported / f"{name}.json"))
    assert name == "text" or config.steps < 60
    prompt = vocabulary.encode("The value").tolist()
    assert generator.encode("The value") == prompt
    written = "".join(generator.generate(prompt, length=60, temperature=0, top_k=None, seed=0))
    original = sampling.generate_tokens(model, vocabulary, prompt, temperature=0)
    assert written == "".join(vocabulary.decode([next(original) for _ in range(60)]))


@pytest.mark.parametrize(("cell", "layers", "tied"), [("gru", 2, False), ("rnn", 1, False), ("lstm", 2, True)])
def test_every_kind_of_cell_can_be_exported(tmp_path, cell, layers, tied):
    config = language_model.Config(cell=cell, layers=layers, tied=tied, hidden_size=8, embedding_size=6)
    vocabulary = Vocabulary.build("a text of few letters")
    graph = graphs.text_of(language_model.make_recurrent(len(vocabulary), config).eval(), vocabulary)
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "text.onnx")
    model = Model((tmp_path / "text.onnx").read_bytes())
    parity = export.compare("text", graph, model, program.module())
    assert parity.onnx <= 1e-5


def test_a_transformer_with_sinusoidal_positions_can_be_exported(tmp_path):
    """`exported` has one with rotary positions."""
    small: dict = {"embedding_size": 8, "hidden_size": 12, "layers": 1, "heads": 2, "steps": 5}
    config = language_model.Config(network="transformer", positions="sinusoidal", by="hand", **small)
    vocabulary = Vocabulary.build("a text of few letters")
    torch.manual_seed(0)
    network = language_model.make_transformer(len(vocabulary), config).eval()
    for parameter in network.parameters():  # some are zero at first
        torch.nn.init.normal_(parameter)
    graph = graphs.transformer_of(network, vocabulary)
    read = graph.inputs["state"][:, 0].tolist()
    assert min(read) == 0 and max(read) > 5 and any(0 < count < 4 for count in read), "caches of every kind"
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "transformer.onnx")
    model = Model((tmp_path / "transformer.onnx").read_bytes())
    assert export.compare("transformer", graph, model, program.module()).onnx <= 1e-5


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "none"])
def test_a_cache_of_zeros_is_an_empty_one(positions):
    """Step by step from a state of zeros, the logits are those of the whole text read at once, in float64."""
    small: dict = {"embedding_size": 8, "hidden_size": 12, "layers": 2, "heads": 2, "steps": 5}
    config = language_model.Config(network="transformer", positions=positions, **small)
    torch.manual_seed(0)
    network = language_model.make_transformer(9, config).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    step = graphs.CachedStep(network)
    tokens = torch.randint(9, (12, 3))
    expected, _ = network(tokens, network.initial_state(3))
    state = torch.zeros(3, sum(step.sizes), dtype=torch.float64)
    for token, logits in zip(tokens, expected, strict=True):
        found, state = step(token, state)
        torch.testing.assert_close(found, logits)
    assert state[:, 0].tolist() == [12.0] * 3


@given(
    logits=st.lists(st.floats(-20, 20, width=32, allow_subnormal=False), min_size=2, max_size=12),
    temperature=st.sampled_from([0.0, 0.1, 0.8, 1.0, 2.0]),
    top_k=st.sampled_from([None, 1, 3, 50]),
)
@settings(deadline=None, max_examples=60)
def test_sampling_probabilities_equal_chapter_5(logits, temperature, top_k):
    found = writing.sampling_probabilities(np.array(logits), temperature=temperature, top_k=top_k)
    scores = torch.tensor(logits, dtype=torch.float64)
    expected = sampling.sampling_probabilities(scores, temperature=temperature, top_k=top_k)
    assert_close(found, expected, atol=1e-9)


def test_a_text_is_repeatable_and_depends_on_seed_and_temperature(exported):
    generator = TextGenerator(load_model(exported / "text.json"))

    def write(**changes) -> str:
        return "".join(
            generator.generate(
                [generator.first], **({"length": 40, "temperature": 1.0, "top_k": None, "seed": 1} | changes)
            )
        )

    assert write() == write()
    assert write() != write(seed=2)
    assert write(temperature=0, seed=1) == write(temperature=0, seed=2) == write(top_k=1)
    assert len(write(length=7)) == 7


def test_the_unknown_symbol_has_probability_zero(exported):
    generator = TextGenerator(load_model(exported / "text.json"))
    assert generator.unknown is not None
    logits, _ = generator._step(3, np.zeros((1, generator.state_size), np.float32))
    assert writing.sampling_probabilities(logits, temperature=2.0, top_k=None)[generator.unknown] == 0


def test_answers_and_attention_are_those_of_the_original(exported, run_of, monkeypatch):
    reader = Reader(load_model(exported / "stories.json"))
    network, encoder, _ = memory_network.restore(run_of("stories"))
    monkeypatch.setattr(stories, "TRAIN", 200)
    questions = load_stories(limit=21).test
    questions.append(replace(questions[0], story=questions[0].story * 30))  # more statements than are kept
    for question, expected in zip(questions, visualise.read(network, encoder, questions), strict=True):
        answer = reader.answer(" ".join(question.story), question.text)
        assert answer["answer"] == expected.predicted(encoder)
        assert answer["probability"] == pytest.approx(float(expected.p.max()), abs=1e-5)
        assert answer["statements"] == list(question.story[-encoder.memory_size :])
        assert_close(np.array(answer["attention"], np.float32), expected.attention)


@pytest.mark.parametrize(("sharing", "encoding_name"), [("adjacent", "position"), ("layer_wise", "bag")])
def test_every_kind_of_memory_network_can_be_exported(tmp_path, monkeypatch, sharing, encoding_name):
    config = memory_network.Config(sharing=sharing, encoding=encoding_name, embedding_size=6, memory_size=5)
    asked = [Question(("Mary ran.", "John took the milk."), "Who took milk?", "John", ())]
    encoder = encoding.StoryEncoder.fit(asked, config.encoding, config.memory_size)
    network = memory_network.make_network(encoder, config).eval()
    monkeypatch.setattr(memory_network, "restore", lambda _: (network, encoder, config))
    graph = graphs.stories(tmp_path, "stories")
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "stories.onnx")
    model = Model((tmp_path / "stories.onnx").read_bytes())
    assert export.compare("stories", graph, model, program.module()).onnx <= 1e-5


@pytest.mark.parametrize("count", [1, 2, 300])
def test_agents_equal_the_originals_for_any_batch_size(exported, run_of, count):
    observations = torch.randn(count, 4, generator=torch.Generator().manual_seed(count))
    answer = load_model(exported / "ppo.json")(observations=observations.numpy())
    model, _ = ppo.restore(run_of("ppo"))
    assert_close(answer["logits"], model(observations))
    assert_close(answer["probabilities"], model(observations).softmax(1))
    answer = load_model(exported / "dqn.json")(observations=observations.numpy())
    assert_close(answer["values"], dqn.restore(run_of("dqn"))[0](observations))


def test_decisions_are_the_greedy_policy_of_chapter_7(exported, run_of):
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    for name, program in (("ppo", ppo), ("dqn", dqn)):
        decisions = Balancer(load_model(exported / f"{name}.json")).decide(states.tolist())["decisions"]
        expected = greedy(program.restore(run_of(name))[0])(states)
        assert [decision["action"] for decision in decisions] == expected.tolist()


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_agents_of_other_environments_are_not_exported(tmp_path, name):
    source = SOURCES[name]
    for environment, suits in (("CartPole-v1", True), ("Acrobot-v1", False)):
        config = source.program.Config(environment=environment)
        (tmp_path / "config.json").write_text(json.dumps({"config": to_json(config)}))
        assert source.suits(tmp_path) == suits


def test_a_policy_that_shares_layers_with_its_values_can_be_exported(tmp_path, monkeypatch):
    config = ppo.Config(shared=True, hidden_size=8)
    model = ppo.ActorCritic(task_of("CartPole-v1"), config).eval()
    monkeypatch.setattr(ppo, "restore", lambda _: (model, config))
    graph = policy_graphs.policy(tmp_path, "CartPole-v1")
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "ppo.onnx")
    exported = Model((tmp_path / "ppo.onnx").read_bytes())
    assert export.compare("ppo", graph, exported, program.module()).onnx <= 1e-5
    assert not any("value" in name for name in program.state_dict), "the value function is not exported"


@given(st.text(alphabet="abÉé .!?\n'’-_3", max_size=40))
@settings(deadline=None, max_examples=200)
def test_sentences_and_words_are_chapter_fives(text):
    assert question_answering.split_sentences(text) == ask.split_sentences(text)
    assert question_answering.tokenise(text) == encoding.tokenise(text)


def test_paths_equal_the_original_on_mazes_outside_the_training_set(exported, run_of):
    planner = MazePlanner(load_model(exported / "maze.json"))
    network, config = generalise.restore(run_of("maze"))
    drawn = [parse_maze("\n".join(rows)) for rows in planner.model.serving.mazes]
    known = {letters(maze) for maze in generalise.draw_split(config, "train", config.mazes)}
    assert not known & {letters(maze) for maze in drawn}
    for number in range(8):
        answer = planner.solve(number)
        expected = greedy_path(generalise.values_of(network, [drawn[number]])[0], drawn[number])
        assert [tuple(tile) for tile in answer["path"]] == expected
        assert answer["solved"] == (expected[-1] == drawn[number].exit)
        assert answer["tiles"] == drawn[number].walls.int().tolist()
        assert (answer["start"], answer["goal"]) == (drawn[number].start, drawn[number].exit)
    assert planner.solve(3) == planner.solve(3 + len(drawn))


def test_a_path_follows_the_action_values():
    from ch10_deploy.inference.planning import MOVES, follow
    from common.data.mazes.maze import distances, shortest_path

    maze = carve(4, 5, random.Random(3), loops=0.2)
    steps, walls = distances(maze).numpy(), maze.walls.numpy()
    values = np.full((4, *walls.shape), -1e9)
    for action, (down, right) in enumerate(MOVES):
        for r, c in zip(*np.nonzero(~walls), strict=True):
            s, d = r + down, c + right
            if 0 <= s < walls.shape[0] and 0 <= d < walls.shape[1] and not walls[s, d]:
                values[action, r, c] = -steps[s, d]
    assert follow(values, walls, maze.start, maze.exit) == shortest_path(maze)
    assert follow(-values, walls, maze.start, maze.exit)[-1] != maze.exit


def test_recommendations_equal_the_original(exported, run_of):
    recommender_model = FilmRecommender(load_model(exported / "films.json"))
    model, config, data = recommender.restore(run_of("films"))
    likes, dislikes = [data.titles[5], data.titles[70], data.titles[200]], [data.titles[33]]
    options = recommend.Options(like=tuple(likes), dislike=tuple(dislikes), top=8)
    expected = recommend.suggest(model, config, data, recommend.find_person(options, data), options)
    answer = recommender_model.recommend(likes, dislikes, 8)
    assert [film["title"] for film in answer["films"]] == [data.titles[each.film] for each in expected]
    assert [film["rating"] for film in answer["films"]] == pytest.approx([each.stars for each in expected], abs=1e-5)
    assert [film["because"] for film in answer["films"]] == [
        [data.titles[film] for film, _ in each.because] for each in expected
    ]


def test_conjugate_gradients_equal_a_direct_solver():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(5, graphs.MAX_RATED, 101, dtype=torch.float64, generator=generator)
    prior = torch.rand(101, dtype=torch.float64, generator=generator).mul(200).add(50)  # similar to trained units
    a, b = h.mT @ h + prior.diag(), torch.randn(5, 101, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(graphs.conjugate_gradients(a, b), torch.linalg.solve(a, b), rtol=1e-6, atol=1e-7)
    assert torch.equal(graphs.conjugate_gradients(a, torch.zeros_like(b)), torch.zeros_like(b))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Files of several formats and sizes, one of them turned by its EXIF orientation."""
    folder = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    coarse = Image.fromarray(noise).resize((90, 120), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    coarse.save(folder / "a.png")
    coarse.resize((64, 64)).save(folder / "b.png")
    coarse.convert("RGBA").resize((150, 40)).save(folder / "c.png")
    coarse.save(folder / "d.jpg", exif=exif)
    coarse.convert("L").resize((30, 50)).save(folder / "e.jpg", progressive=True)
    return sorted(folder.iterdir())


def in_order(found: list[tuple[str, float, list[float]]]) -> list[tuple[str, float, list[float]]]:
    """Sort detections by class and box, since rounding may exchange two of nearly equal scores."""
    return sorted(found, key=lambda each: (each[0], each[2]))


def test_detections_equal_the_original(exported, run_of, photographs):
    detector = ObjectDetector(load_model(exported / "detection.json"))
    network, names, config = detection.restore(run_of("detection"))
    counts = []
    for path in photographs:
        picture = from_file(path.read_bytes())
        answer = detector.detect(picture, 0.1)
        pixels, expected = detect.find(network, names, config.input_size, path, 0.1)
        assert (answer["height"], answer["width"]) == pixels.shape[1:]
        assert np.array_equal(np.asarray(picture), pixels.permute(1, 2, 0).numpy())
        one = in_order([(each["label"], each["score"], each["box"]) for each in answer["detections"]])
        other = in_order([(each.name, each.score, list(each.box)) for each in expected])
        assert [each[0] for each in one] == [each[0] for each in other]
        np.testing.assert_allclose([each[1] for each in one], [each[1] for each in other], atol=1e-5)
        np.testing.assert_allclose([each[2] for each in one], [each[2] for each in other], atol=1e-2)
        counts.append(len(one))
    assert answer["height"] == 50 and min(counts) > 0


def candidates(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw boxes of which many overlap, some without an area, and probabilities of three classes."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 20, (150, 2)), rng.uniform(10, 40, (150, 2))
    size[:5] = -1
    return np.concatenate([corner, corner + size], axis=1), rng.random((150, 3)) ** 4


@pytest.mark.parametrize("seed", range(4))
def test_the_selection_of_boxes_equals_chapter_6(seed):
    boxes, probabilities = candidates(seed)
    expected = evaluation.select(torch.from_numpy(boxes)[None], torch.from_numpy(probabilities)[None])
    count = int((expected.scores[0] > 0).sum())
    assert 20 < count < 100
    found = object_detection.select(boxes, probabilities, 0)
    for one, other in zip(found, (expected.boxes, expected.scores, expected.labels), strict=True):
        assert np.array_equal(one, other[0, :count].numpy())
    constants = ("CANDIDATES", "MOST", "LOWEST", "SUPPRESSED")
    assert all(getattr(object_detection, name) == getattr(evaluation, name) for name in constants)


def test_a_threshold_only_removes_detections():
    boxes, probabilities = candidates(5)
    for threshold in (0.0, 0.3, 0.9, 1.0):
        every, found = (object_detection.select(boxes, probabilities, least) for least in (0, threshold))
        chosen = every[1] >= threshold
        assert all(np.array_equal(one[chosen], other) for one, other in zip(every, found, strict=True))
    assert object_detection.select(boxes, probabilities, 1)[0].shape == (0, 4)


def test_at_most_a_hundred_detections_are_kept():
    boxes = np.array([[3.0 * n, 0, 3 * n + 1, 1] for n in range(300)])
    scores = np.linspace(0.02, 0.9, 300)[:, None]
    found = object_detection.select(boxes, scores, 0)
    assert np.array_equal(found[1], scores[:199:-1, 0]) and (found[0][0] == boxes[-1]).all()


@pytest.mark.parametrize(
    ("head", "backbone"), [("yolo", "small"), pytest.param("ssd", "efficientnet-lite0", marks=pytest.mark.slow)]
)
def test_every_kind_of_detector_can_be_exported(tmp_path, head, backbone):
    """`exported` has SSD with the small backbone."""
    sizes: dict = {"data": "bccd", "width": 4, "filters": 8, "input_size": (32, 64)}
    torch.manual_seed(0)
    network = detection.make_model(2, detection.Config(head=head, backbone=backbone, **sizes)).eval()
    images = torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8)
    graph = picture_graphs.detect_of(network, ("one", "other"), images)
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "detection.onnx")
    model = Model((tmp_path / "detection.onnx").read_bytes())
    assert export.compare("detection", graph, model, program.module()).onnx <= 1e-5
    with Image.open(io.BytesIO(base64.b64decode(graph.serving["examples"][1]))) as example:
        assert np.array_equal(np.asarray(example), images[1].permute(1, 2, 0).numpy())


def assert_masks_equal(found: np.ndarray, expected: torch.Tensor):
    """Compare masks; rounding may exchange two nearly equal logits of a pixel."""
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert (found != expected.numpy()).mean() < 1e-3


def test_masks_equal_the_original(exported, run_of, photographs):
    """The photographs keep their sizes, which are not multiples of the network's stride."""
    segmenter = Segmenter(load_model(exported / "segmentation.json"))
    network, names, config = segmentation.restore(run_of("segmentation"))
    assert segmenter.classes == list(names) and segmenter.size is None and config.stride == segmenter.stride == 8
    for path in photographs:
        picture = from_file(path.read_bytes())
        labels = segmenter.labels(picture)
        assert_masks_equal(labels, segment.find_mask(network, config, path)[1])
        answer = segmenter.segment(picture)
        with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as mask:
            assert mask.mode == "P" and mask.info["transparency"] == 0 and np.array_equal(np.asarray(mask), labels)
            palette = mask.getpalette() or []
            colours = [f"#{bytes(palette[3 * n : 3 * n + 3]).hex()}" for n in range(len(names))]
        assert answer["colours"] == colours and colours[:3] == ["#000000", "#800000", "#008000"]
        assert answer["shares"] == [float((labels == number).mean()) for number in range(len(names))]
        pixels = np.array(picture.resize((72, 56)))
        logits = network(torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0))
        assert_close(segmenter.logits(pixels), logits[0], atol=1e-4)


@pytest.mark.slow
def test_a_fully_convolutional_network_can_be_exported(tmp_path, photographs):
    """`exported` has a U-Net."""
    config = segmentation.Config(network="fcn", width=4)
    torch.manual_seed(0)
    model = segmentation.make_model(3, config).eval()
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):  # so that all classes occur
            torch.nn.init.normal_(parameter)
    images = torch.randint(256, (2, 3, 32, 64), dtype=torch.uint8)
    graph = picture_graphs.segment_of(model, ("one", "other", "third"), images, resized=False)
    program = export.trace(graph)
    export.write_onnx(program, graph, tmp_path / "segmentation.onnx")
    card = cards.SegmentationCard.model_construct(serving=cards.Masks.model_validate(graph.serving))
    exported = Model((tmp_path / "segmentation.onnx").read_bytes(), card)
    assert export.compare("segmentation", graph, exported, program.module()).onnx <= 1e-5
    for path in photographs[:3]:
        labels = Segmenter(exported).labels(from_file(path.read_bytes()))
        assert_masks_equal(labels, segment.find_mask(model, config, path)[1])
        assert len(np.unique(labels)) == 3


@pytest.mark.parametrize(("backbone", "resized"), [("efficientnet-lite0", False), ("small", True)])
def test_the_size_of_some_segmentation_networks_is_fixed(backbone, resized):
    model = segmentation.make_model(3, segmentation.Config(network="fcn", backbone=backbone, width=4)).eval()
    images = torch.zeros(2, 3, 32, 64, dtype=torch.uint8)
    graph = picture_graphs.segment_of(model, ("one", "other", "third"), images, resized=resized)
    assert graph.serving["size"] == (32, 64)
    assert graph.dynamic == {"pixels": {0: "batch"}} and graph.sizes == {}


class Resizing:
    """A model that returns the brightness of its input, of a fixed size, as logits of two classes."""

    serving = cards.Masks(
        classes=["dark", "bright"], colours=[(0, 0, 0), (1, 1, 1)], stride=8, size=(16, 24), examples=["YQ=="]
    )

    def __call__(self, pixels):
        assert pixels.shape == (1, 16, 24, 3)
        bright = pixels[..., 0].astype(np.float32)
        return {"logits": np.stack([np.full_like(bright, 127.5), bright], axis=1)}


def test_a_picture_is_resized_for_a_network_of_a_fixed_size():
    pixels = np.zeros((100, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    segmenter: Any = Segmenter
    labels = segmenter(Resizing()).labels(Image.fromarray(pixels))
    assert labels.shape == (100, 60) and np.array_equal(labels, pixels[..., 0] // 255)


class Recording:
    """A model that keeps its input, and returns its red and green bytes as logits of two classes."""

    serving = cards.Masks(
        classes=["red", "green"], colours=[(0, 0, 0), (1, 1, 1)], stride=8, size=None, examples=["YQ=="]
    )

    def __call__(self, pixels):
        self.pixels = pixels
        return {"logits": pixels[..., :2].transpose(0, 3, 1, 2).astype(np.float32)}


@pytest.mark.parametrize(("height", "width"), [(11, 21), (8, 15), (9, 16), (16, 8), (1, 1)])
def test_a_picture_is_extended_by_copies_of_its_last_pixels(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    model: Any = Recording()
    labels = Segmenter(model).labels(Image.fromarray(pixels))
    rows = [min(row, height - 1) for row in range(-(-height // 8) * 8)]
    columns = [min(column, width - 1) for column in range(-(-width // 8) * 8)]
    assert np.array_equal(model.pixels, pixels[rows][:, columns][np.newaxis])
    assert labels.dtype == np.uint8 and np.array_equal(labels, pixels[..., 1] > pixels[..., 0])


def test_enlarged_masks_equal_the_nearest_pixels_of_torch():
    labels = np.random.default_rng(0).integers(0, 9, (5, 7))
    for size in ((5, 7), (13, 9), (3, 20)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(labels)[None, None].float(), size, mode="nearest-exact"
        )
        assert np.array_equal(enlarged(labels, *size), expected[0, 0].numpy())


def test_stylised_pictures_equal_the_original(exported, run_of, photographs):
    """Their sizes are not multiples of the network's stride."""
    stylist = Stylist(load_model(exported / "style.json"))
    model, _ = fast_style.restore(run_of("style"))
    for path in photographs:
        picture = from_file(path.read_bytes())
        images = torch.from_numpy(np.array(picture)).permute(2, 0, 1).unsqueeze(0) / 255
        expected = network.stylise(model, images)[0].permute(1, 2, 0) * 255
        found = stylist.pixels(picture)
        assert found.dtype == np.uint8 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected.numpy(), atol=0.51)
    assert stylist.pixels(Image.new("RGB", (3, 5))).shape == (5, 3, 3)


def test_cards_match_their_runs_and_graphs(exported, run_of):
    for name in NAMES:
        text = (exported / f"{name}.json").read_text()
        card, folder = json.loads(text), run_of(name)
        summary = json.loads((folder / "summary.json").read_text())
        assert card["metrics"] == summary["metrics"]
        assert card["data"] == summary["data"]
        assert card["data"]["embedded"] is True
        assert (card["chapter"], card["program"]) == (summary["chapter"], summary["program"])
        assert card["weights_sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        graph = (exported / f"{name}.onnx").read_bytes()
        assert card["sha256"] == checksum(card, graph)
        assert {"torch", "onnx", "onnxruntime"} <= card["versions"].keys()
        for trace in (str(ROOT), "site-packages", "File "):
            assert trace.encode() not in graph, "the graph contains a local path"
    card = json.loads((exported / "digits.json").read_text())
    assert card["inputs"] == {"pixels": {"type": "uint8", "shape": ["batch", 28, 28]}}
    assert card["outputs"]["logits"] == {"type": "float", "shape": ["batch", 10]}


def test_the_torch_export_program_equals_the_original(exported, run_of):
    program = torch.export.load(exported.parent / "programs" / "digits.pt2").module()
    pixels = torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    expected = feedforward.predict(feedforward.restore(run_of("digits"))[0], pixels.unsqueeze(1))
    torch.testing.assert_close(program(pixels)[0].detach(), expected)


@pytest.mark.parametrize(
    ("change", "output", "size"),
    [
        (lambda logits: logits + 1e-3 * logits.abs().max(), "logits", "1.0e-03"),
        (lambda logits: logits * torch.nan, "logits", "inf"),
        (lambda probabilities: probabilities + 1e-3, "probabilities", "1.0e-03"),
    ],
)
def test_an_export_that_differs_is_not_written(trained, options, monkeypatch, change, output, size):
    def changed(folder, data):
        graph = graphs.digits(folder, data)

        def original(pixels):
            answers = dict(zip(graph.outputs, graph.original(pixels), strict=True))
            return tuple((answers | {output: change(answers[output])}).values())

        return replace(graph, original=original)

    monkeypatch.setitem(SOURCES, "digits", replace(SOURCES["digits"], graph=changed))
    config = export.Config(models=("digits",), runs=trained, run=options)
    with pytest.raises(ValueError, match=f"digits: the ONNX graph's {output} differ .* by {size}, more than 1e-05"):
        export.train(config)
    assert not [path for path in options.out.rglob("*") if path.suffix in (".onnx", ".pt2") or path.stem == "digits"]


def test_the_newest_run_with_suitable_settings_is_found(trained, options):
    source = SOURCES["decoder"]
    suitable = source.newest(trained)
    assert suitable is not None
    few = replace(options, limit=50)
    quick = {"data": "digits", "epochs": 1, "importance_samples": 50, "likelihood_images": 2}
    vae.train(vae.Config(latent_size=5, **quick, run=few))
    assert source.newest(options.out) is None, "a run with five latent units is not suitable"
    assert source.newest(options.out / "nothing") is None


@pytest.mark.slow
def test_missing_runs_are_trained_and_existing_ones_exported(options, capsys):
    few = replace(options, limit=100)
    feedforward.train(feedforward.Config(data="digits", epochs=1, run=few))
    config = export.Config(models=("digits", "decoder", "digits"), runs=options.out, data="embedded", run=few)
    metrics = export.train(config)
    output = capsys.readouterr().out
    assert output.startswith("data     digits: 100 train")
    assert "digits: from" in output
    assert "decoder: training ch08_vae.autoencoding.vae" in output
    measures = ("parity", "eager_microseconds", "onnx_microseconds", "kilobytes")
    assert set(metrics) == {f"{name}_{measure}" for name in ("digits", "decoder") for measure in measures}
    assert max(metrics["digits_parity"], metrics["decoder_parity"]) <= 1e-5
    assert min(metrics.values()) >= 0
    assert 900 < metrics["digits_kilobytes"] < 1_200
    (trained_now,) = options.out.glob("ch10_deploy/export/*/training/ch08_vae/vae/*")
    assert read_config(trained_now, vae.Config).run.precision == options.precision == "fp32"


def test_a_missing_folder_of_runs_is_an_error(options, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--runs .*rnus is not a folder"):
        export.train(export.Config(models=("digits",), runs=tmp_path / "rnus", run=options))


def test_an_export_needs_at_least_one_network():
    with pytest.raises(ValueError, match="--models needs at least one of digits, pictures"):
        export.Config(models=())
