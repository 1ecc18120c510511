"""Recommendations for a person: ranking, explanations, fold-in, titles, and one-line errors."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ch03_autoencoder_rbm import recommend
from ch03_autoencoder_rbm.films import recommender
from ch03_autoencoder_rbm.films.baseline_models.biases import USER_PRIOR
from ch03_autoencoder_rbm.films.predictors import make_predictor
from ch03_autoencoder_rbm.recommend import Options, Person
from common.config import RunOptions
from common.data.ratings.loading import load_ratings
from common.run_folders.folder import newest_run

KINDS: list[Any] = [("gaussian", "films"), ("gaussian", "users"), ("softmax", "users"), ("binary", "users")]


@pytest.fixture(scope="module")
def data():
    return load_ratings("planted")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Runs of every RBM that can recommend to a new person, and of one that cannot; the default is the newest."""
    folder = tmp_path_factory.mktemp("runs")
    options = RunOptions(device="cpu", precision="fp32", threads=1)
    planted = load_ratings("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recommender, "report", lambda *_: None)
        patch.setattr(recommender, "COMPARED_BASELINES", ("bias", "popularity"))
        for visible, by in [("softmax", "films"), *reversed(KINDS)]:
            config = recommender.Config(
                data="planted", visible=visible, cases=by, epochs=6, hidden_size=16, run=options
            )
            recommender.train(replace(config, run=replace(options, out=folder / f"{visible}-{by}")), planted)
    return folder


def restored(out, visible, by) -> Any:
    return recommender.restore(newest_run(out / f"{visible}-{by}", recommender))


def person_of(data, user):
    """Return a user of the data set as a Person."""
    ratings = data.train + data.valid + data.test
    own = ratings[ratings.users == user]
    return Person(own.films.long(), own.stars)


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_suggestions_are_unrated_films_with_explanations(out, visible, by):
    model, config, data = restored(out, visible, by)
    person = person_of(data, 41)
    found = recommend.suggest(model, config, data, person, Options(user=42, top=7, reasons=3))
    assert len(found) == len({suggestion.film for suggestion in found}) == 7
    assert not {suggestion.film for suggestion in found} & set(person.films.tolist())
    fewer = recommend.suggest(model, config, data, person, Options(user=42, top=3, reasons=1))
    assert [s.film for s in fewer] == [s.film for s in found[:3]]
    for suggestion in found:
        assert (suggestion.stars is None) == (visible == "binary")
        changes = [change for _, change in suggestion.because]
        assert changes == sorted(changes, reverse=True)
        assert all(change > 0 for change in changes)
        assert {film for film, _ in suggestion.because} <= set(person.films.tolist())
    assert any(suggestion.because for suggestion in found)


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_predictions_without_a_film_equal_those_for_the_person_without_it(out, visible, by):
    """Compare the batched ablation with predictions for a Person without the film."""
    model, _, data = restored(out, visible, by)
    whole = data.train + data.valid + data.test
    predictor = recommend.FoldIn(model, whole, data) if by == "films" else recommend.UserCases(model, whole, data)
    person = Person(torch.tensor([3, 9, 40, 77]), torch.tensor([5.0, 1.0, 4.5, 4.0]))
    without = predictor.without_each(person)
    for left_out in range(4):
        rest = [place for place in range(4) if place != left_out]
        expected = predictor.stars(Person(person.films[rest], person.stars[rest]))
        torch.testing.assert_close(without[left_out], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(without[0], predictor.stars(person), atol=1e-4)


@pytest.mark.parametrize(("visible", "by"), [("gaussian", "users"), ("softmax", "users")])
def test_predictions_for_a_known_user_equal_the_predictors(out, visible, by):
    model, _, data = restored(out, visible, by)
    whole = data.train + data.valid + data.test
    predictor = make_predictor(model, whole, by, data)
    films = torch.arange(data.n_films)
    expected = predictor.stars(torch.full_like(films, 41), films)
    found = recommend.UserCases(model, whole, data).stars(person_of(data, 41))
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=0.02)  # the user bias is not fitted alternately


def test_softmax_rbm_recommends_in_the_order_of_its_predictor(out):
    """The probability of four stars or more comes from the levels, as in the evaluation."""
    model, config, data = restored(out, "softmax", "users")
    whole, person = data.train + data.valid + data.test, person_of(data, 41)
    scores = make_predictor(model, whole, "users", data).scores(torch.tensor([41]))[0].clone()
    liking = recommend.UserCases(model, whole, data).liking(person)
    torch.testing.assert_close(whole.films.bincount(minlength=data.n_films) * liking, scores)
    scores[person.films] = -torch.inf
    found = recommend.suggest(model, config, data, person, Options(user=42, top=10))
    assert [suggestion.film for suggestion in found] == scores.topk(10).indices.tolist()


def test_binary_rbm_gets_only_the_liked_films(out):
    model, _, data = restored(out, "binary", "users")
    whole = data.train + data.valid + data.test
    expected = make_predictor(model, whole, "users", data).scores(torch.tensor([41]))[0]
    torch.testing.assert_close(recommend.UserCases(model, whole, data).stars(person_of(data, 41)), expected)


@pytest.mark.parametrize(("visible", "by"), KINDS)
def test_explanations_are_differences_without_the_film(out, visible, by):
    model, config, data = restored(out, visible, by)
    whole = data.train + data.valid + data.test
    predictor = recommend.FoldIn(model, whole, data) if by == "films" else recommend.UserCases(model, whole, data)
    person = Person(torch.tensor([3, 9, 40, 77]), torch.tensor([5.0, 1.0, 4.5, 4.0]))
    found = recommend.suggest(model, config, data, person, Options(like=("x",), top=3, reasons=4))
    value, without = predictor.stars(person), predictor.without_each(person)
    for suggestion in found:
        difference = (value - without)[:, suggestion.film]
        expected = {int(film): float(d) for film, d in zip(person.films, difference, strict=True) if d > 0}
        assert dict(suggestion.because) == pytest.approx(expected, abs=1e-4)


def test_fold_in_equals_bayesian_regression(out):
    """At the weights of the new unit, the gradient of squared error plus prior is zero."""
    model, _, data = restored(out, "gaussian", "films")
    folded = recommend.FoldIn(model, data.train, data)
    person = person_of(data, 41)
    h = folded.hidden[person.films]
    x = person.stars.double() - folded.biases.mean - folded.biases.film[person.films]
    user_bias = x.sum() / (len(x) + USER_PRIOR)
    e = (x - user_bias) / folded.biases.sd
    w = folded.mean.clone().requires_grad_()
    for _ in range(30):  # Newton's method, which is exact on a quadratic
        loss = 0.5 * (e - h @ w).square().sum() + 0.5 * (folded.precision * (w - folded.mean).square()).sum()
        (gradient,) = torch.autograd.grad(loss, w)
        curvature = h.T @ h + folded.precision.diag()
        w = (w - torch.linalg.solve(curvature, gradient)).detach().requires_grad_()
    baseline = folded.biases.mean + folded.biases.film + user_bias
    expected = baseline + folded.biases.sd * (folded.hidden @ w.detach())
    torch.testing.assert_close(folded.stars(person).double(), expected.double(), rtol=1e-4, atol=1e-4)


def test_fold_in_is_about_as_accurate_as_training(out):
    model, config, data = restored(out, "gaussian", "films")
    known = data.train + data.valid
    folded: Any = recommend.FoldIn(model, known, data)
    trained: Any = make_predictor(model, known, config.cases, data)
    errors = []
    for user in range(60):
        own, test = known[known.users == user], data.test[data.test.users == user]
        stars = folded.stars(Person(own.films.long(), own.stars))[test.films.long()]
        errors.append((stars - test.stars, trained.stars(test.users.long(), test.films.long()) - test.stars))
    ours, theirs = (torch.cat(part).square().mean().sqrt().item() for part in zip(*errors, strict=True))
    assert ours < 1.03 * theirs


def test_liking_a_film_gives_higher_predictions_than_disliking_it(out):
    model, _, data = restored(out, "gaussian", "films")
    folded = recommend.FoldIn(model, data.train, data)
    like = folded.stars(Person(torch.tensor([5]), torch.tensor([5.0])))
    dislike = folded.stars(Person(torch.tensor([5]), torch.tensor([1.0])))
    assert like.mean() > dislike.mean()


def test_titles_are_found_in_any_case_and_without_year(data):
    film = 17
    title = data.titles[film]
    for query in (title, title.upper(), f"  {title} ", title.rpartition(" (")[0]):
        assert recommend.find_film(query, data) == film


def test_of_two_films_with_the_same_title_the_more_rated_one_is_found(data):
    count = (data.train + data.valid + data.test).films.bincount(minlength=data.n_films)
    titles = list(data.titles)
    titles[3] = titles[8] = "Emma (1996)"
    assert recommend.find_film("emma (1996)", replace(data, titles=tuple(titles))) == (3 if count[3] > count[8] else 8)


def test_titles_are_found_with_a_leading_article(data):
    titles = ("Matrix, The (1999)", "Bug's Life, A (1998)", "O (2001)", *data.titles[3:])
    named = replace(data, titles=titles)
    assert recommend.find_film("The Matrix", named) == 0
    assert recommend.find_film("the matrix (1999)", named) == 0
    assert recommend.find_film("A Bug's Life", named) == 1
    with pytest.raises(ValueError, match="did you mean") as error:
        recommend.find_film("Matricks, The", named)
    assert "'O (2001)'" not in str(error.value)


def test_error_for_a_misspelt_title_suggests_similar_titles(data):
    title = data.titles[17]
    with pytest.raises(ValueError, match="did you mean") as error:
        recommend.find_film(title.replace("a", "e", 1)[:-7], data)
    assert title in str(error.value)
    with pytest.raises(ValueError, match="and no similar title"):
        recommend.find_film("QQQQ zzzz", data)


def test_flags_override_ratings_of_the_data(data):
    title = data.titles[17]
    person = recommend.find_person(Options(user=42, dislike=(title,)), data)
    assert dict(zip(person.films.tolist(), person.stars.tolist(), strict=True))[17] == recommend.BAD
    assert len(person.films) == len(set(person_of(data, 41).films.tolist()) | {17})


def test_error_for_a_user_without_ratings(data):
    """With --limit, some users have no ratings."""
    without = {part: getattr(data, part)[getattr(data, part).users != 41] for part in ("train", "valid", "test")}
    fewer = replace(data, **without)
    with pytest.raises(ValueError, match=r"--user 42: no ratings .*; add --like, or train without --limit"):
        recommend.find_person(Options(user=42), fewer)
    person = recommend.find_person(Options(user=42, like=(data.titles[17],)), fewer)
    assert person.films.tolist() == [17]


@pytest.fixture
def command(out, capsys):
    """Run the command line with the default RBM and return its output."""

    def run(*words):
        recommend.main([*words, "--out", str(out / "gaussian-films")])
        return capsys.readouterr().out

    return run


def test_command_line_prints_recommendations(command, data):
    text = command("--user", "42", "--top", "4")
    assert text.startswith("data     planted: 600 users, 800 films")
    assert "because of" in text
    text = command("--like", data.titles[0], data.titles[5], "--dislike", data.titles[9], "--top", "3")
    assert f"person   {data.titles[0]} 5, {data.titles[5]} 5, {data.titles[9]} 1" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "9999"], "--user 9999: not in planted (user IDs 1 to 600)"),
        (["--user", "0"], "--user 0: not in planted"),
        (["--user", str(2**63 - 1)], "--user 9223372036854775807: not in planted"),
        (["--user", "99999999999999999999"], "--user must be between 0 and 2^63 - 1, got 99999999999999999999"),
        (["--user", "-1"], "--user must be between 0 and 2^63 - 1, got -1"),
        (["--like", "The Ambr Archiv"], "did you mean 'The Amber Archive (1950)'"),
        ([], "no person given: use python -m ch03_autoencoder_rbm.recommend --user 42"),
        (["--user", "1", "--top", "0"], "--top must be a number above 0, got 0"),
        (["--user", "1", "--reasons", "-1"], "--reasons must not be negative"),
        (["--like", "The Amber Archive", "--dislike", "The Amber Archive"], "is in both --like and --dislike"),
        (["--usr", "1"], "did you mean --user?"),
    ],
)
def test_errors_are_one_line(fails, command, words, message):
    assert message in fails(command, *words)


def test_error_without_a_run_shows_the_training_command(fails, tmp_path):
    error = fails(recommend.main, ["--user", "1", "--out", str(tmp_path)])
    assert "train one with python -m ch03_autoencoder_rbm.train recommender" in error


def test_error_for_an_rbm_that_cannot_recommend_to_new_people(fails, out):
    error = fails(recommend.main, ["--user", "1", "--out", str(out / "softmax-films")])
    assert "or --cases users" in error


def test_the_newest_finished_run_is_used(out, tmp_path):
    home = tmp_path / "ch03_autoencoder_rbm" / "recommender"
    for name in ("a", "b", "c"):
        (home / name).mkdir(parents=True)
        (home / name / "model.safetensors").write_text("")
        if name != "c":
            (home / name / "summary.json").write_text("{}")
    assert newest_run(tmp_path, recommender) == home / "b"


def test_changed_data_are_rejected(fails, out, monkeypatch):
    folder = newest_run(out / "gaussian-films", recommender)
    monkeypatch.setattr("common.data.ratings.planted.SEED", 1)
    assert "trained on different data" in fails(recommend.main, ["--user", "1", "--folder", str(folder)])
