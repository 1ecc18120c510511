"""Forecasts: the series whose floor is known, the rivals by hand, nothing of the future anywhere."""

import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ch05_rnn.series import autoregression, forecast
from ch05_rnn.series.autoregression import Autoregression, seasonal_naive, targets
from ch05_rnn.series.forecast import Config, Networks
from common import cli
from common.data import source
from common.data.series import delayed, series
from common.data.series.series import load_csv, load_series
from conftest import train_until


@pytest.fixture(scope="module")
def curve():
    return load_series(limit=600)


@pytest.fixture
def config(options):
    return Config(epochs=2, window=24, horizon=6, hidden_size=8, run=options)


def best_of(its, horizon):
    best = its.best(horizon)
    assert best is not None
    return best


def phi(x):
    """Where deviations send the next ones, on tensors."""
    return 3.6 * x * torch.exp(-(x**2) / 2)


def stray_of(its):
    assert its.stray is not None
    return its.stray


# The series.


def test_the_series_is_its_formula():
    whole = load_series()
    assert len(whole.values) == 20_000
    x = stray_of(whole)
    torch.testing.assert_close(whole.values - series.profile(torch.arange(20_000)), x)
    noise = (x[1:] - phi(x[:-1])) / 0.25
    assert abs(float(noise.mean())) < 0.03
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 0.03, "what is left can be predicted"
    torch.testing.assert_close(series.profile(torch.arange(24)), series.profile(torch.arange(24) + 24 * 7))
    assert load_series().card.sha256 == whole.card.sha256 == load_series(limit=9).card.sha256


def test_conditional_means_are_those_of_many_futures():
    start = torch.tensor([-2.0, 0.1, 1.4], dtype=torch.float64)
    means = series.conditional_means(start, 4)
    generator = torch.Generator().manual_seed(0)
    x = start.expand(200_000, 3)
    for h in range(4):
        x = phi(x) + series.SIGMA * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(means[:, h], x.mean(0), rtol=0, atol=0.015)
    torch.testing.assert_close(means[:, 0], phi(start), rtol=0, atol=1e-4)


def test_nobody_knows_more_than_the_best_forecast():
    whole = load_series()
    best, stray = best_of(whole, 6), stray_of(whole)
    off = forecast.errors(best, whole.values, 1_000, 20_000)
    assert float(off[:, 0].square().mean().sqrt()) == pytest.approx(series.SIGMA, rel=0.02)
    for rival in (0.9 * phi(stray), phi(stray + 0.1), torch.zeros_like(stray)):
        worse = best.clone()
        worse[:, 0] += rival - phi(stray)
        assert forecast.errors(worse, whole.values, 1_000, 20_000)[:, 0].square().mean() > off[:, 0].square().mean()


def test_a_limit_keeps_what_is_next_to_the_cut(curve):
    whole = load_series()
    assert (curve.train_end, curve.valid_end, len(curve.values)) == (600, 1_200, 1_800)
    assert curve.first == 14_000 - 600
    assert torch.equal(curve.values, whole.values[13_400 : 13_400 + 1_800])
    torch.testing.assert_close(best_of(curve, 3), best_of(whole, 3)[13_400 : 13_400 + 1_800])


# The series of cues and responses.


def test_the_delayed_series_follows_its_description():
    whole = load_series("delayed")
    assert whole.states is not None
    P, m = delayed.chain()
    torch.testing.assert_close(P.sum(1), torch.ones(delayed.STATES, dtype=torch.float64))
    noise = whole.values - m[whole.states]
    assert float(noise.std()) == pytest.approx(delayed.SIGMA, rel=0.02)
    cues = (m[whole.states].abs() == 1).nonzero().flatten().tolist()
    triggers = (m[whole.states] == 2).nonzero().flatten().tolist()
    delays = []
    for cue, trigger in zip(cues, triggers, strict=False):
        delays.append(trigger - cue)
        assert not m[whole.states[cue + 1 : trigger]].any(), "nothing between cue and trigger tells the kind"
        response = m[whole.states[trigger + 1 : trigger + 9]]
        assert (response == 3 * m[whole.states[cue]]).all()
    assert (min(delays), max(delays)) == (30, 60)
    assert sum(delays) / len(delays) == pytest.approx(45, abs=2.5)


def test_expectations_of_the_delayed_series_by_hand():
    cue, trigger, last = 1, 1 + 60, delayed.KIND_STATES
    means = delayed.expectations(torch.tensor([trigger, trigger + delayed.KIND_STATES, last, 0, cue]), 9)
    assert means[0].tolist() == pytest.approx([3] * 8 + [0])
    assert means[1].tolist() == pytest.approx([-3] * 8 + [0]), "the other kind"
    assert means[2].tolist() == pytest.approx([0] * 9), "idle, and then a cue of either kind"
    assert means[3].tolist() == pytest.approx([0] * 9)
    assert means[4].tolist() == pytest.approx([0] * 9), "no trigger within 29 steps"
    earliest = torch.tensor([cue + 29])  # one of 31 delays is over
    trigger_next, response_next = delayed.expectations(earliest, 2)[0].tolist()
    assert trigger_next == pytest.approx(2 / 31)
    assert response_next == pytest.approx(2 / 31 + 3 / 31)


def test_the_best_forecast_of_the_delayed_series_is_the_mean_of_many_futures():
    P, m = delayed.chain()
    generator = torch.Generator().manual_seed(0)
    state = torch.full((20_000,), 1 + 40)
    expected = delayed.expectations(state[:1], 4)[0]
    for h in range(4):
        state = torch.multinomial(P[state], 1, generator=generator).squeeze(1)
        assert float(m[state].mean()) == pytest.approx(float(expected[h]), abs=0.03)


def test_the_mlp_sees_its_lags_and_no_more(config):
    torch.manual_seed(0)
    networks = Networks(replace(config, mlp_lags=4, harmonics=1)).eval()
    features = torch.randn(1, 20, 3)
    changed = features.clone()
    changed[0, 5, 0] += 1  # the value at step 5
    for model, affected in ((networks.mlp, {5, 6, 7, 8}), (networks.lstm, set(range(5, 20)))):
        moved = (model(features) - model(changed)).abs().amax(2)[0]
        assert set(moved.nonzero().flatten().tolist()) == affected
    waves = features[0, 7, 1:]
    by_hand = networks.mlp.layers(torch.cat([features[0, 4:8, 0], waves]))
    torch.testing.assert_close(networks.mlp(features)[0, 7], by_hand)


def test_forecasts_are_drawn_at_the_triggers_of_the_delayed_series():
    its = load_series("delayed")
    assert its.states is not None
    origins = forecast.forecast_origins(its, horizon=8)
    assert len(origins) == 4
    assert origins[0] >= its.valid_end - 1
    for origin in origins:
        assert float(its.values[origin]) == pytest.approx(delayed.TRIGGER, abs=0.6)
        response = its.values[origin + 1 : origin + 9]
        assert response.abs().mean() == pytest.approx(delayed.RESPONSE, abs=0.3)
    assert int(delayed.is_trigger(torch.arange(delayed.STATES)).sum()) == 2, "one of each kind"


def test_forecasts_of_other_series_are_drawn_at_regular_distances(curve):
    origins = forecast.forecast_origins(curve, horizon=6)
    assert origins[0] == curve.valid_end - 1
    assert origins[-1] == len(curve.values) - 7
    assert len(origins) == 4


# ETTh1.


def write_etth1(count=14_500):
    """Write a file with the columns of ETTh1 into DATA_DIR."""
    folder = source.data_dir() / "ETT-small"
    folder.mkdir(parents=True)
    rows = "".join(f"{n},1,{n % 24 + n / 1_000}\n" for n in range(count))
    (folder / "ETTh1.csv").write_text("date,HUFL,OT\n" + rows)


def test_etth1_is_split_into_12_4_and_4_months():
    write_etth1()
    whole = load_series("etth1")
    assert (whole.train_end, whole.valid_end, len(whole.values)) == (8_640, 11_520, 14_400)
    assert whole.values[[0, 8_640]].tolist() == [0, 8_640 % 24 + 8.64], "the column of the oil temperature"
    assert whole.best(3) is None
    part = load_series("etth1", limit=100)
    assert (part.first, part.train_end, part.valid_end, len(part.values)) == (8_540, 100, 200, 300)
    torch.testing.assert_close(part.values, whole.values[8_540:8_840])


def test_a_short_etth1_is_refused():
    write_etth1(count=14_399)
    with pytest.raises(ValueError, match=r"ETTh1.csv has 14,399 values, but the splits need 14,400: download it again"):
        load_series("etth1")


def test_etth1_that_cannot_be_downloaded_names_the_folder_and_another_series():
    with pytest.raises(
        source.DataUnavailable, match=r"etth1 is not in .*ETT-small .*; put ETTh1.csv there, or .* curve"
    ):
        load_series("etth1")


# CSV files.


def write_csv(path, values, header="day,units,note"):
    path.write_text(
        "\n".join([header, *(f"d{n},{value},x" for n, value in enumerate(values))]) + "\n", encoding="utf-8"
    )
    return path


def test_a_column_is_read_in_the_order_of_the_file(tmp_path):
    read = load_csv(write_csv(tmp_path / "sales.csv", [1.5, -2, 3e2, 4]), "units")
    assert read.values.tolist() == [1.5, -2, 300, 4]
    assert read.card.name == "sales" and not read.card.embedded
    assert read.best(3) is None


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", "a", "is empty: its first line names the columns"),
        ("a,b\n1,2\n", None, "choose a column of {path} with --column: it has a, b"),
        ("price,b\n1,2\n", "prise", "{path} has no column 'prise'; did you mean 'price'?"),
        ("a,b\n1,2\n", "zzz", "{path} has no column 'zzz': it has a, b"),
        ("a,b\n1,2\n\n1,x\n", "b", "{path} line 4: column 'b' is 'x', which is not a number"),
        ("a,b\n1,2\n1\n", "b", "{path} line 3: column 'b' is '', which is not a number"),
        ("a,b\n1,nan\n", "b", "{path} line 2: column 'b' is 'nan', which is not a number"),
        ("a,b\n1,inf\n", "b", "{path} line 2: column 'b' is 'inf', which is not a number"),
        ("a,b\n1,2\n1,2\n", "b", "{path}: column 'b' holds 2 values that do not change"),
        (
            "a,b\n1,2\n1," + "9" * 200_000,
            "b",
            "{path} line 3 is not a line of comma-separated values: field larger than",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, column, message):
    path = tmp_path / "file.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))):
        load_csv(path, column)


def test_a_missing_file_and_a_wrong_encoding_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="--csv takes a file of comma-separated values with a header"):
        load_csv(tmp_path / "no.csv", "a")
    (tmp_path / "latin.csv").write_bytes(b"a\n1\n\xe9\n")
    with pytest.raises(ValueError, match="is not UTF-8: byte 4 cannot be decoded"):
        load_csv(tmp_path / "latin.csv", "a")


@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False), min_size=2, max_size=20, unique=True
    )
)
def test_what_is_written_is_read(tmp_path_factory, values):
    path = write_csv(tmp_path_factory.mktemp("csv") / "file.csv", [repr(value) for value in values])
    assert series.read_column(path, "units").tolist() == values


# The rivals.


def test_seasonal_naive_by_hand():
    values = torch.arange(10, dtype=torch.float64)
    naive = seasonal_naive(values, period=3, horizon=5)
    assert naive[4].tolist() == [2, 3, 4, 2, 3]
    assert naive[9].tolist() == [7, 8, 9, 7, 8]
    assert naive[0].isnan().tolist() == [True, True, False, True, True]
    assert naive[0, 2] == 0
    periodic = values % 3
    assert (seasonal_naive(periodic, 3, 5)[3:5] == targets(periodic, 5)[3:5]).all()


def test_targets_are_what_comes_next():
    assert targets(torch.arange(6), 2).tolist() == [[1, 2], [2, 3], [3, 4], [4, 5]]


def test_an_autoregression_finds_the_line_that_made_the_series():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4_000, generator=generator, dtype=torch.float64)
    y = torch.zeros(4_000, dtype=torch.float64)
    for t in range(2, 4_000):
        y[t] = 1 + 0.5 * y[t - 1] - 0.3 * y[t - 2] + 0.1 * noise[t]
    fitted = Autoregression.fit(y, torch.arange(4_000), lags=2, period=24, harmonics=1, horizon=2)
    c, *waves, second, first = fitted.A[:, 0].tolist()  # the oldest value comes first
    assert (c, first, second) == pytest.approx((1, 0.5, -0.3), abs=0.05)
    assert waves == pytest.approx([0, 0], abs=0.02)
    assert fitted.A[-1, 1].item() == pytest.approx(0.5**2 - 0.3, abs=0.05)  # two steps ahead


def test_an_autoregression_is_the_least_squares_of_its_own_past_alone(curve):
    time = curve.first + torch.arange(len(curve.values))
    past = slice(0, curve.train_end)
    named = {"lags": 4, "period": 24, "harmonics": 2, "horizon": 3}
    fitted = Autoregression.fit(curve.values[past], time[past], **named)
    X, Y = [], []
    for t in range(3, curve.train_end - 3):
        angle = [2 * math.pi * k * int(time[t]) / 24 for k in (1, 2)]
        X.append([1, *map(math.sin, angle), *map(math.cos, angle), *curve.values[t - 3 : t + 1].tolist()])
        Y.append(curve.values[t + 1 : t + 4].tolist())
    X, Y = torch.tensor(X, dtype=torch.float64), torch.tensor(Y, dtype=torch.float64)
    torch.testing.assert_close(fitted.A, torch.linalg.solve(X.T @ X, X.T @ Y), rtol=1e-6, atol=1e-8)
    forecasts = fitted.forecast(curve.values, time)
    assert forecasts[:3].isnan().all()
    torch.testing.assert_close(forecasts[3 : 3 + len(X)], X @ fitted.A)


def test_a_period_of_two_has_one_wave_and_of_one_none():
    time = torch.arange(4)
    assert autoregression.harmonics(time, 1, 4).shape == (4, 0)
    assert autoregression.harmonics(time, 2, 4).shape == (4, 2)
    assert autoregression.harmonics(time, 24, 4).shape == (4, 8)


# The program.


def test_no_forecast_sees_the_future(curve, config):
    """Other values after a time change nothing that was said up to it, by anybody."""
    torch.manual_seed(0)
    time = curve.first + torch.arange(len(curve.values))
    changed = curve.values.clone()
    changed[900:] += 5
    networks = Networks(config, 10.0, 2.0).eval()
    fitted = forecast.fit_autoregression(curve, time, config)
    for one, other in (
        (networks.lstm.forecast(curve.values, time), networks.lstm.forecast(changed, time)),
        (networks.mlp.forecast(curve.values, time), networks.mlp.forecast(changed, time)),
        (fitted.forecast(curve.values, time), fitted.forecast(changed, time)),
        (seasonal_naive(curve.values, 24, 6), seasonal_naive(changed, 24, 6)),
        (best_of(curve, 6), best_of(replace(curve, stray=stray_of(curve) + (torch.arange(1800) >= 900)), 6)),
    ):
        torch.testing.assert_close(one[:900], other[:900], equal_nan=True)
        assert not torch.allclose(one[900:], other[900:])


def test_errors_are_of_whole_forecasts_within_the_split():
    values = torch.arange(10, dtype=torch.float64) ** 2
    off = forecast.errors(torch.zeros(10, 2, dtype=torch.float64), values, start=6, end=9)
    assert (-off).tolist() == [[36, 49], [49, 64]], "from 5 on, the last value before, and from 6 on"
    measures = forecast.measure(torch.tensor([[3.0, 0], [-4, 1]]), std=2.0)
    assert measures["one_step_rmse"] == pytest.approx(math.sqrt(12.5))
    assert measures["all_steps_rmse"] == pytest.approx(math.sqrt(26 / 4))
    assert measures["all_steps_mae"] == 2
    assert measures["scaled_mse"] == pytest.approx(26 / 4 / 2**2)


@pytest.mark.parametrize("name", ["lstm", "mlp"])
def test_a_residual_network_adds_its_outputs_to_the_last_value(config, name):
    torch.manual_seed(0)
    features = torch.randn(2, 9, 1 + 2 * config.harmonics)
    plain, residual = (getattr(Networks(replace(config, residual=flag)), name) for flag in (False, True))
    residual.load_state_dict(plain.state_dict())
    torch.testing.assert_close(residual(features), features[..., :1] + plain(features))
    values, time = torch.randn(30, dtype=torch.float64), torch.arange(30)
    residual.load_state_dict(
        {name: torch.zeros_like(part) for name, part in residual.state_dict().items()} | {"std": torch.tensor(2.0)}
    )
    torch.testing.assert_close(
        residual.forecast(values, time), values.unsqueeze(1).expand(-1, config.horizon), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["lstm", "mlp"])
def test_forecasts_are_in_the_units_of_the_series(curve, config, name):
    torch.manual_seed(0)
    model, time = getattr(Networks(config).eval(), name), torch.arange(100)
    values = curve.values[:100]
    scaled = model.forecast((values - 10) / 4, time)
    model.mean.fill_(10)
    model.std.fill_(4)
    torch.testing.assert_close(model.forecast(values, time), 10 + 4 * scaled, rtol=1e-5, atol=1e-5)


def test_step_is_the_weighted_error_after_the_warm_up(config):
    torch.manual_seed(0)
    model = Networks(config).lstm
    features = torch.randn(3, 10, model.lstm.input_size)
    wanted = torch.randn(3, 10, 6)
    off = (model(features) - wanted)[:, 5:]
    weight = [1 / h for h in range(1, 7)]
    expected = torch.stack([w * off[:, :, h].square().mean() for h, w in enumerate(weight)]).sum() / sum(weight)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    norm = float(torch.stack([g.norm() for g in gradients]).norm())
    before = [p.detach().clone() for p in model.parameters()]
    loss = forecast.train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), features, wanted)
    torch.testing.assert_close(loss, expected.detach())
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * g * min(1, forecast.CLIP / norm), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.bf16)])
@pytest.mark.parametrize("name", ["lstm", "mlp"])
def test_one_batch_is_learned_by_heart(config, name, bf16):
    torch.manual_seed(0)
    networks = Networks(replace(config, hidden_size=64))
    model = getattr(networks, name)
    optimizer = forecast.make_optimizer(model, 0.01)
    features, wanted = torch.randn(2, 6, networks.lstm.lstm.input_size), torch.randn(2, 6, 6)
    losses = []
    train_until(
        lambda: losses[-1] < 0.02 * losses[0],
        lambda: losses.append(float(forecast.train_step(model, optimizer, features, wanted, bf16=bf16))),
        at_most=2_000,
    )


def test_training_repeats_restores_and_shows(config, curve):
    first, second = forecast.train(config, curve), forecast.train(config, curve)
    for name in first.keys() - {"train_seconds", "windows_per_second"}:
        assert first[name] == second[name]
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (networks, restored), (other, _) = forecast.restore(one), forecast.restore(two)
    assert all(torch.equal(a, b) for a, b in zip(networks.parameters(), other.parameters(), strict=True))
    assert restored == config
    time = curve.first + torch.arange(len(curve.values))
    past = curve.values[: curve.train_end]
    for name, model in (("lstm", networks.lstm), ("mlp", networks.mlp)):
        off = forecast.errors(model.forecast(curve.values, time), curve.values, curve.valid_end, len(curve.values))
        assert forecast.measure(off, 1.0)["all_steps_rmse"] == pytest.approx(
            first[f"test_{name}_all_steps_rmse"], rel=1e-5
        )
        assert (float(model.mean), float(model.std)) == pytest.approx((float(past.mean()), float(past.std())))
    for name in ("horizon", "forecasts", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_an_interrupted_run_ends_with_the_same_weights(config, curve, monkeypatch):
    forecast.train(config, curve)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], forecast.train_step

    def interrupted(*arguments, **named):
        steps.append(1)
        if len(steps) == 8:  # of three an epoch, for each of two networks: in the second one
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(forecast, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        forecast.train(config, curve)
    monkeypatch.setattr(forecast, "train_step", step)
    forecast.train(replace(config, run=replace(config.run, resume=True)), curve)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_what_is_fitted_does_not_depend_on_the_test_split(config, curve):
    values = curve.values.clone()
    values[curve.valid_end :] += 100
    for data in (curve, replace(curve, values=values)):
        forecast.train(replace(config, epochs=1), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two
    lags = {
        forecast.fit_autoregression(data, torch.arange(1_800), config).lags
        for data in (curve, replace(curve, values=values))
    }
    assert len(lags) == 1


def test_a_csv_column_is_forecast(config, tmp_path):
    path = write_csv(tmp_path / "sales.csv", [n % 7 + n / 100 for n in range(300)])
    metrics = forecast.train(replace(config, csv=path, column="units", period=7))
    assert metrics["test_autoregression_all_steps_rmse"] < 1e-6, "a line and a week are a line through the last values"
    assert metrics["test_seasonal_naive_one_step_rmse"] == pytest.approx(0.07)
    assert not any("best" in name for name in metrics)


def test_a_column_that_never_changes_is_refused(config, tmp_path):
    path = write_csv(tmp_path / "sales.csv", [5.0] * 250 + [*range(50)])
    with pytest.raises(ValueError, match=r"must not be constant.*got 5\.0"):
        forecast.train(replace(config, csv=path, column="units", period=7))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "units"], "--column needs --csv, the file, got units"),
        (["--csv", "no.csv", "--column", "a"], "no.csv does not exist: --csv takes a file"),
        (["--limit", "20"], "the train split needs 120 values: take a longer series, a larger --limit, or a smaller"),
        (["--csv", "a.csv", "--data", "delayed"], "--csv takes the place of --data"),
        (["--mlp-lags", "60"], "--mlp-lags must be at most half of --window, plus 1, got 60"),
        (["--period", "0"], "--period must be a number above 0, got 0"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, forecast, arguments=["forecast", *words, "--out", str(tmp_path)])


@pytest.mark.slow
def test_both_networks_learn_the_curve_that_no_line_follows(options, monkeypatch):
    monkeypatch.setattr(forecast, "report", lambda *_: None)
    metrics = forecast.train(Config(epochs=8, batch_size=32, hidden_size=32, run=options))
    for name in ("lstm", "mlp"):
        assert metrics[f"test_{name}_one_step_rmse"] < 0.75 * metrics["test_autoregression_one_step_rmse"]
        assert metrics[f"test_{name}_one_step_rmse"] > metrics["test_best_possible_one_step_rmse"]


@pytest.mark.slow
def test_the_lstm_remembers_cues_that_the_mlp_cannot_see(options, monkeypatch):
    monkeypatch.setattr(forecast, "report", lambda *_: None)
    metrics = forecast.train(Config(data="delayed", epochs=8, batch_size=32, hidden_size=32, run=options))
    assert metrics["test_lstm_one_step_rmse"] < 0.8 * metrics["test_mlp_one_step_rmse"]
    assert metrics["test_lstm_one_step_rmse"] > metrics["test_best_possible_one_step_rmse"]
