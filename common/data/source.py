"""Where data lies: `DATA_DIR`, downloads that are checked before they count, and a card that says what a run used."""

import hashlib
import http.client
import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

PROBE_SECONDS = 4.0
"""How long a mirror may take to answer before it counts as dead."""

MD5_LENGTH = 32
"""Hexadecimal digits of an md5."""


class DataUnavailable(FileNotFoundError):  # noqa: N818
    """A data set is neither on disk nor to be had by download."""


@dataclass(frozen=True)
class DataCard:
    """Which data a run used."""

    name: str
    """As tables show it: a published set's name stands alone only where the data are whole, see `published.py`."""
    embedded: bool
    """Whether it comes with the suite or its dependencies, instead of from a published data set."""
    sha256: str
    description: str
    """One line for people: sizes, and where the data came from."""
    published: str = ""
    """The published set that these data are a part or a variant of, as --data has it, where `name` says so."""

    def record(self) -> dict[str, str | bool]:
        """Give what config.json and summary.json say of the data."""
        known = {"name": self.name, "embedded": self.embedded, "sha256": self.sha256}
        return known | ({"published": self.published} if self.published else {})


def option_of(record: dict[str, Any]) -> Any:
    """Give the name by which --data loads the set that a run's record is about."""
    return record.get("published") or record["name"]


def data_dir() -> Path:
    """Give the folder of the data sets: the environment's DATA_DIR, else `data`."""
    return Path(os.environ.get("DATA_DIR") or "data")


def sha256_of(*tensors: Tensor) -> str:
    """Hash the bytes of tensors, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data.cast("B"))
    return digest.hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Hash lines of text, each with its end."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(mirrors: list[str], path: Path, checksum: str) -> None:
    """Download a file from the first mirror that has it, into a temporary folder, and rename it once it is checked.

    The checksum is an md5, or a sha256, which is twice as long.

    Two processes at once each download their own copy; the last rename wins, and both copies are the same.
    Raises DataUnavailable with every mirror's reason. A dead network is noticed within seconds.
    """
    from torchvision.datasets.utils import download_url

    if os.environ.get("DATA_OFFLINE"):
        raise DataUnavailable("DATA_OFFLINE is set, so nothing is downloaded")
    reasons = []
    for url in mirrors:
        patience = socket.getdefaulttimeout()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as scratch:
                _probe(url)
                socket.setdefaulttimeout(15)  # seconds without a byte; download_url itself would wait for ever
                download_url(url, scratch, path.name, checksum if len(checksum) == MD5_LENGTH else None)
                if len(checksum) != MD5_LENGTH and sha256_of_file(Path(scratch) / path.name) != checksum:
                    raise RuntimeError("File not found or corrupted.")
                (Path(scratch) / path.name).replace(path)
                return
        # torchvision's word for a wrong checksum is RuntimeError.
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            reasons.append(f"{url}: {reason}")
        finally:
            socket.setdefaulttimeout(patience)
    raise DataUnavailable("; ".join(reasons))


def _probe(url: str) -> None:
    """Raise why the mirror does not answer soon, even where looking up its name hangs."""
    failure: list[Exception] = [TimeoutError(f"no answer within {PROBE_SECONDS:g} seconds")]

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            failure.clear()
        except urllib.error.HTTPError as error:
            error.close()
            failure[0] = error
        except (OSError, http.client.HTTPException) as error:
            failure[0] = error

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if failure:
        raise failure[0]
