"""Comparison with the VAE of pytorch/examples: the published file, the equivalent loop, and the program."""

import copy
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import datasets, transforms

from ch08_vae.autoencoding import examples_vae, peers, vae
from ch08_vae.autoencoding.networks import VAE
from ch08_vae.evaluation.likelihood import measure
from ch08_vae.preprocessing import flat
from common import cli
from common.data.source import data_dir
from conftest import train_until

CPU = torch.device("cpu")

STAND_IN = """
import argparse, os, sys
import torch
from torch import nn
from torchvision import datasets, transforms

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int)
parser.add_argument("--no-accel", action="store_true")
parser.add_argument("--seed", type=int)
args = parser.parse_args()
print("noise")
train_loader = torch.utils.data.DataLoader(
    datasets.MNIST("../data", train=True, download=True, transform=transforms.ToTensor()), batch_size=args.batch_size
)
test_set = datasets.MNIST("../data", train=False)
model = nn.Linear(784, 1)
epochs = []

def loss_function(probabilities, x, mu, logvar):
    return x.sum()

def train(epoch):
    print("noise")
    epochs.append((epoch, os.getcwd(), sum(len(images) for images, _ in train_loader)))

if __name__ == "__main__":
    raise AssertionError("the script must not run")
"""


@pytest.fixture
def stand_in(monkeypatch):
    """Put a file with the interface of the published one into its place."""
    path = data_dir() / "pytorch-examples" / "vae" / "main.py"
    path.parent.mkdir(parents=True)
    path.write_text(STAND_IN)
    monkeypatch.setattr(examples_vae, "SHA256", hashlib.sha256(STAND_IN.encode()).hexdigest())
    return path


@pytest.fixture
def few(digits):
    return replace(digits, train=digits.train[:100], test=digits.test[:30])


# The published file.


def test_torchvision_reads_the_written_images(few, tmp_path):
    examples_vae.write_mnist(few, tmp_path)
    for train, split in ((True, few.train), (False, few.test)):
        found = datasets.MNIST(str(tmp_path), train=train, download=True, transform=transforms.ToTensor())
        assert torch.equal(found.data, split.pixels.squeeze(1)) and torch.equal(found.targets, split.labels)


def test_the_published_file_runs_unmodified_on_the_same_images(few, stand_in, tmp_path, capsys):
    before = Path.cwd(), sys.argv
    path = examples_vae.published_file()
    assert path == stand_in
    peer = examples_vae.published(path, few, tmp_path, batch_size=32, seed=7, device=CPU)
    peer.train_epoch()
    peer.train_epoch()
    script = peer.loss_function.__globals__
    assert script["epochs"] == [(1, os.fspath(tmp_path / "vae"), 100), (2, os.fspath(tmp_path / "vae"), 100)]
    args = script["args"]
    assert (args.batch_size, args.seed, args.no_accel) == (32, 7, True)
    assert len(script["test_set"]) == 30
    assert (Path.cwd(), sys.argv) == before
    assert capsys.readouterr().out == ""
    assert peer.name == "examples"


def test_another_version_is_refused(stand_in):
    stand_in.write_text(STAND_IN + "# changed\n")
    with pytest.raises(ValueError, match=r"main\.py is not the version 77f55b91 of pytorch/examples: delete it"):
        examples_vae.published_file()


def test_without_the_file_an_equivalent_loop_takes_its_place(few, options, tmp_path, capsys, fails):
    peer = peers.make_peer(peers.Config(run=options), few, tmp_path, CPU)
    assert peer.name == "equivalent"
    assert "notice   an equivalent loop replaces the file of pytorch/examples" in capsys.readouterr().out
    words = ["peers", "--peer", "published", "--data", "digits", "--out", str(options.out)]
    assert "DATA_OFFLINE is set" in fails(cli.main, peers, arguments=words)
    assert not list(options.out.rglob("summary.json"))


def test_the_peer_can_be_chosen(few, options, stand_in, tmp_path):
    names: dict[Any, str] = {"auto": "examples", "published": "examples", "equivalent": "equivalent"}
    for peer, name in names.items():
        config = peers.Config(peer=peer, run=options)
        assert peers.make_peer(config, few, tmp_path / peer, CPU).name == name


# The equivalent loop.


def test_the_loss_is_binary_cross_entropy_plus_kl_divergence_summed_over_all():
    probabilities = torch.tensor([[0.5, 0.25], [0.5, 0.5]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    mu = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    logvar = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    half, quarter = torch.tensor(0.5).double().log(), torch.tensor(0.75).double().log()
    divergence = 0.5 + (torch.e - 2) / 2
    assert examples_vae.summed_loss(probabilities, x, mu, logvar).item() == pytest.approx(
        float(-3 * half - quarter) + divergence, abs=1e-12
    )


def test_both_report_the_same_loss_for_the_same_network(digits, monkeypatch):
    """`grey_loss` of our program and the loss of the peer are the same function."""
    theirs, ours = examples_vae.Network().double(), VAE(20, hidden=(400,)).double()
    assert isinstance(ours.features, nn.Sequential) and isinstance(theirs.decoder, nn.Sequential)
    ours.features[1] = ours.decoder[1] = nn.ReLU()
    pairs = [(ours.features[0], theirs.hidden), (ours.decoder[0], theirs.decoder[0])]
    for mine, other in [*pairs, (ours.decoder[2], theirs.decoder[2])]:
        mine.load_state_dict(other.state_dict())
    with torch.no_grad():
        ours.posterior.weight.copy_(torch.cat([theirs.mu.weight, theirs.logvar.weight]))
        ours.posterior.bias.copy_(torch.cat([theirs.mu.bias, theirs.logvar.bias]))
    x = flat(digits.test.pixels).double()
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    peer = examples_vae.Example("", "", theirs, examples_vae.summed_loss, lambda: None)
    assert peer.test_loss(x) == pytest.approx(-measure(ours, x)["elbo"], rel=1e-12)


def test_the_equivalent_loop_learns(few):
    torch.manual_seed(0)
    peer = examples_vae.equivalent(few.train, batch_size=50, device=CPU)
    x = flat(few.train.pixels)
    first = peer.test_loss(x)
    train_until(lambda: peer.test_loss(x) < 0.5 * first, peer.train_epoch, at_most=100)


def test_an_epoch_of_the_equivalent_loop_takes_steps_of_adam_on_every_image(few, monkeypatch):
    peer = examples_vae.equivalent(few.train, batch_size=40, device=CPU)
    seen, rates = [], []
    forward, step = peer.model.forward, torch.optim.Adam.step
    monkeypatch.setattr(peer.model, "forward", lambda x: (seen.append(x), forward(x))[1])

    def stepping(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", stepping)
    total: Any = peer.train_epoch()
    assert [len(x) for x in seen] == [40, 40, 20] and rates == [1e-3] * 3
    images = torch.cat(seen).flatten(1)
    assert not torch.equal(images, flat(few.train.pixels)), "the order must be random"
    assert images.sum().item() == pytest.approx(flat(few.train.pixels).sum().item())
    assert 0 < total < 1_000


def test_the_gradient_of_a_step_is_that_of_its_batch_alone(few, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    peer = examples_vae.equivalent(few.train, batch_size=100, device=CPU)
    peer.train_epoch()
    twin, x = copy.deepcopy(peer.model), flat(few.train.pixels)
    peer.train_epoch()
    probabilities, mu, logvar = twin(x)
    expected = torch.autograd.grad(examples_vae.summed_loss(probabilities, x, mu, logvar), list(twin.parameters()))
    for parameter, gradient in zip(peer.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


# The program.


def test_an_epoch_of_ours_takes_the_programs_step_on_every_image(few, options, monkeypatch):
    seen = []
    monkeypatch.setattr(vae, "train_step", lambda model, optimizer, x, bf16: seen.append((x, bf16)))
    config = peers.Config(batch_size=40, run=options)
    assert peers.epoch_of_ours(config, few, CPU, bf16=True) == 100
    assert [len(x) for x, _ in seen] == [40, 40, 20] and all(bf16 for _, bf16 in seen)
    assert torch.cat([x for x, _ in seen]).sum().item() == pytest.approx(flat(few.train.pixels).sum().item())


@pytest.mark.parametrize(("theirs", "ours", "epochs"), [(10, 2, 50), (3.9, 2, 19), (0.1, 2, 1), (1e6, 2, 1_000)])
def test_epochs_in_equal_time(theirs, ours, epochs):
    peer = {"epochs": 10.0, "train_seconds": theirs, "grey_loss": 0.0}
    assert peers.equal_time_epochs(peer, {"epochs": 10.0, "train_seconds": ours, "grey_loss": 0.0}) == epochs


def test_the_program_compares_losses_and_throughput(few, options, monkeypatch, capsys):
    trained = []

    def train(config, data):
        trained.append(config)
        return {"train_seconds": 1e-9, "test_grey_loss": 100.0 + len(trained)}

    monkeypatch.setattr(vae, "train", train)
    monkeypatch.setattr(peers, "equal_time_epochs", lambda theirs, ours: 7)
    metrics = peers.train(peers.Config(data="digits", epochs=2, batch_size=25, rounds=1, run=options), few)
    assert [config.epochs for config in trained] == [2, 7]
    assert {config.hidden for config in trained} == {(400,)} and {config.batch_size for config in trained} == {25}
    assert {config.binarisation for config in trained} == {"none"}
    assert trained[0].run.out != trained[1].run.out
    assert (metrics["ours_grey_loss"], metrics["equal_time_grey_loss"]) == (101, 102)
    assert (metrics["equivalent_epochs"], metrics["equal_time_epochs"]) == (2, 7)
    assert 0 < metrics["equivalent_grey_loss"] < 1_000 and metrics["equivalent_train_seconds"] > 0
    expected = metrics["fp32_images_per_second"] / metrics["equivalent_images_per_second"]
    assert metrics["fp32_equivalent_ratio"] == pytest.approx(expected)
    assert "training seconds" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate", "rounds"])
def test_invalid_settings(name):
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be"):
        peers.Config(**settings)
