"""Data folder (`DATA_DIR`), downloads with checksums, and the card that describes the data of a run."""

import hashlib
import http.client
import os
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from common.progress import download_bar

PROBE_SECONDS = 4.0
"""Seconds after which a mirror that does not answer is skipped."""

SILENCE_SECONDS = 15.0
"""Seconds without a byte after which a download fails."""

CHUNK = 1 << 16
"""Bytes that are read at a time."""

MD5_LENGTH = 32
"""Hexadecimal digits of an md5."""


class DataUnavailable(FileNotFoundError):  # noqa: N818
    """A data set is not on disk and cannot be downloaded."""


@dataclass(frozen=True)
class DataCard:
    """Description of the data of a run."""

    name: str
    """Name in tables: the plain name of a published set only if the data are complete, see `published.py`."""
    embedded: bool
    """Whether the data come with this project or its dependencies, not from a published data set."""
    sha256: str
    description: str
    """Sizes and origin of the data, in one line."""
    published: str = ""
    """Published set (a value of --data) of which these data are a part or a variant, else empty."""

    def record(self) -> dict[str, str | bool]:
        """Return the entry about the data in config.json and summary.json."""
        known = {"name": self.name, "embedded": self.embedded, "sha256": self.sha256}
        return known | ({"published": self.published} if self.published else {})


def option_of(record: dict[str, Any]) -> Any:
    """Return the value of --data that loads the set of a run's record."""
    return record.get("published") or record["name"]


def data_dir() -> Path:
    """Return the folder of the data sets: the environment variable DATA_DIR, else `data`."""
    return Path(os.environ.get("DATA_DIR") or "data")


def sha256_of(*tensors: Tensor) -> str:
    """Hash the bytes of tensors, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data.cast("B"))
    return digest.hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Hash lines of text, each followed by a newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(mirrors: list[str], path: Path, checksum: str) -> None:
    """Download a file from the first mirror that has it into a temporary folder, verify it, and move it to `path`.

    The checksum is an md5, or a sha256, which is twice as long. Two processes at once each download their own copy; the
    last one replaces the other, and both are the same. Raises DataUnavailable with the reason of every mirror. A failed
    network is detected within seconds.
    """
    if os.environ.get("DATA_OFFLINE"):
        raise DataUnavailable("DATA_OFFLINE is set, so nothing is downloaded")
    reasons = []
    for url in mirrors:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as scratch:
                _probe(url)
                if (
                    _download(url, Path(scratch) / path.name, "md5" if len(checksum) == MD5_LENGTH else "sha256")
                    != checksum
                ):
                    raise OSError("the checksum differs: file changed or download incomplete")
                (Path(scratch) / path.name).replace(path)
                return
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            reasons.append(f"{url}: {reason}")
    raise DataUnavailable("; ".join(reasons))


def _download(url: str, path: Path, algorithm: str) -> str:
    """Download a file, with a bar on a terminal, and return its checksum."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    request = urllib.request.Request(url, headers={"User-Agent": "deep-learning-companion"})
    with (
        urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as response,
        path.open("wb") as file,
        download_bar(f"download {path.name}", response.length) as count,
    ):
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            count(len(chunk))
    return digest.hexdigest()


def _probe(url: str) -> None:
    """Raise an error if the mirror does not answer in time, even if the lookup of its name hangs."""
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
