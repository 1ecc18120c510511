"""Load images as tensors: MNIST and Fashion-MNIST (IDX), CIFAR-10 (binary), and two sets that need no download.

`digits` are scikit-learn's 1,797 real scans, enlarged to MNIST's format. `shapes` are generated, see `shapes.py`.

Dimensions: N images, C channels, H height, W width.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.data import archives, published
from common.data.images import binary, shapes
from common.data.images.cifar import decode_cifar
from common.data.images.image_set import ImageSet, Split
from common.data.source import DataCard, DataUnavailable, data_dir, fetch, sha256_of

ImageSetName = Literal["mnist", "fashion-mnist", "cifar-10", "digits", "shapes"]

STAND_IN: dict[str, ImageSetName] = {"mnist": "digits", "fashion-mnist": "digits", "cifar-10": "shapes"}
"""Embedded replacement of a published set that is not available."""

FOLDER = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar-10": "cifar-10-batches-bin"}

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "digits": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar-10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}

CIFAR_MIRRORS = ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
CIFAR_LIMIT = 2 * 10_000 * binary.CIFAR_RECORD
"""Maximum of unpacked bytes of a file in the archive: twice the size of a batch."""

SPLIT_SEED = 0
"""Seed of the validation split, which is the same in all runs."""


def load_images(
    name: ImageSetName | Literal["auto"], *, preferred: ImageSetName = "mnist", limit: int | None = None
) -> ImageSet:
    """Load a data set by name; `auto` loads the preferred one, or its embedded replacement if that is not available.

    Raises DataUnavailable if a named set is not on disk and cannot be downloaded, ValueError if a file on disk is not
    valid.
    """
    if name != "auto":
        return _load(name, limit)
    try:
        return _load(preferred, limit)
    except DataUnavailable:
        return _load(STAND_IN[preferred], limit, note=f"; {preferred} is not in {data_dir()} and cannot be downloaded")


def _load(name: ImageSetName, limit: int | None, note: str = "") -> ImageSet:
    class_names = CLASS_NAMES.get(name, ())
    counts, contents = {}, {}
    if name == "digits":
        source = "embedded, scikit-learn's"
        train, valid, test = _split(_digits(), 1257, 180, 360)
    elif name == "shapes":
        source, class_names = "embedded, drawn here", shapes.NAMES
        train, valid, test = _split(decode_cifar(shapes.draw_cifar_bytes(), "the shapes"), 10_000, 1_000, 2_000)
    else:
        folder = data_dir() / FOLDER[name]
        development, test = _read_cifar(folder) if name == "cifar-10" else _read_mnist(name, folder)
        if len(development) < 10:
            raise ValueError(f"{folder} has only {len(development)} training images")
        held_out = min(5_000, len(development) // 10)
        source = f"from {folder}"
        counts, contents = _contents(development, test)
        train, valid = _split(development, len(development) - held_out, held_out)
    sha256 = sha256_of(*(t for split in (train, valid, test) for t in (split.pixels, split.labels)))
    if limit is not None:
        train, valid, test = train[:limit], valid[:limit], test[:limit]
    sizes = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test"
    description = f"{sizes}, {source}{note}"
    if counts:
        card = published.card(name, sha256, description, counts, contents)
    else:
        card = DataCard(name, True, sha256, description)
    return ImageSet(card, class_names, train, valid, test)


def _split(whole: Split, *sizes: int) -> list[Split]:
    """Split a set into random parts, the same on every machine and in every run."""
    assert sum(sizes) == len(whole)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return [whole[index] for index in order.split(list(sizes))]


def _contents(train: Split, test: Split) -> tuple[dict[str, int], dict[str, str]]:
    """Return the counts and checksums by which `published` recognises a complete set."""
    counts, contents = {}, {}
    for part, split in (("train", train), ("test", test)):
        counts[f"{part} images"] = len(split)
        contents[f"{part} images"] = sha256_of(split.pixels)
        contents[f"{part} labels"] = sha256_of(split.labels.to(torch.uint8))
    return counts, contents


# MNIST and its family: the IDX format of yann.lecun.com/exdb/mnist.


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes, gzipped or not, as a uint8 tensor; errors are those of `binary.read_idx`."""
    return torch.from_numpy(binary.read_idx(path))


def _read_mnist(name: str, folder: Path) -> tuple[Split, Split]:
    paths = [*_idx_pair(folder, "train"), *_idx_pair(folder, "t10k")]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        try:
            _fetch_mnist(name, folder)
        except DataUnavailable as error:
            if len(missing) < len(paths):  # incomplete, not absent: do not replace it
                raise ValueError(f"{folder} lacks {', '.join(missing)}: {error}") from error
            raise
    return _read_idx_pair(*_idx_pair(folder, "train")), _read_idx_pair(*_idx_pair(folder, "t10k"))


def _idx_pair(folder: Path, part: str) -> tuple[Path, Path]:
    """Return the paths of a part's images and labels: the plain files if they exist, else the gzipped ones."""
    plain = [folder / f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    images, labels = (path if path.exists() else path.with_name(path.name + ".gz") for path in plain)
    return images, labels


def _fetch_mnist(name: str, folder: Path) -> None:
    """Download the missing files, with torchvision's mirrors and checksums."""
    from torchvision import datasets

    family = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
    checksums = dict(family.resources)
    for path in (*_idx_pair(folder, "train"), *_idx_pair(folder, "t10k")):
        if not path.exists():
            mirrors = [mirror + path.name for mirror in family.mirrors]
            _fetch_or_explain(name, folder, mirrors, path, checksums[path.name])


def _read_idx_pair(images: Path, classes: Path) -> Split:
    pixels, labels = read_idx(images), read_idx(classes)
    if pixels.shape[1:] != (28, 28):
        raise ValueError(f"{images} has images of shape {tuple(pixels.shape[1:])}, not 28x28")
    if labels.shape != pixels.shape[:1]:
        raise ValueError(f"{classes} has shape {tuple(labels.shape)}, but {images.name} has {len(pixels)} images")
    binary.check_labels(labels.numpy(), classes)
    return Split(pixels.unsqueeze(1), labels.long())


# CIFAR-10, binary version: www.cs.toronto.edu/~kriz/cifar.html.


def _read_cifar(folder: Path) -> tuple[Split, Split]:
    names = [*CIFAR_TRAIN, CIFAR_TEST]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        archive = data_dir() / "cifar-10-binary.tar.gz"
        try:
            if not archive.exists():
                _fetch_or_explain("cifar-10", folder, CIFAR_MIRRORS, archive, CIFAR_MD5)
        except DataUnavailable as error:
            if len(missing) < len(names):  # incomplete, not absent: do not replace it
                raise ValueError(f"{folder} lacks {', '.join(missing)}: {error}") from error
            raise
        archives.unpack(archive, folder, missing, limit=CIFAR_LIMIT)
    parts = [decode_cifar((folder / name).read_bytes(), folder / name) for name in names]
    train = Split(torch.cat([p.pixels for p in parts[:-1]]), torch.cat([p.labels for p in parts[:-1]]))
    return train, parts[-1]


def _fetch_or_explain(name: str, folder: Path, mirrors: list[str], path: Path, md5: str) -> None:
    """Download one file of a data set; the error says what is missing, where and why, and names the embedded set."""
    try:
        fetch(mirrors, path, md5)
    except DataUnavailable as error:
        raise DataUnavailable(
            f"{name} is not in {folder} and cannot be downloaded ({error}): "
            f"put its files there, set DATA_DIR, or use the embedded set with --data {STAND_IN[name]}"
        ) from error


def _digits() -> Split:
    """Enlarge scikit-learn's 8x8 scans to 20x20, centred in 28x28 pixels like MNIST's digits."""
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    ink = torch.from_numpy(scans).float().view(-1, 1, 8, 8) / 16  # in [0, 1]
    large = F.interpolate(ink, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    pixels = F.pad(large, (4, 4, 4, 4)).mul(255).round().to(torch.uint8)
    return Split(pixels, torch.from_numpy(labels).long())
