"""Read published archives (zip, tar, gzip) within size limits; errors are one line with what to do.

Archives are not trusted. Paths in an archive only identify files in it; they do not determine where a file is written.
A file that unpacks to more than a limit is rejected while it is read. Errors for damage, encryption and unknown
compression name the archive and the file in it. `unpack` writes all requested files or none.
"""

import errno
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from common.files import atomic_path

LIMIT = 1 << 30
"""Default maximum of unpacked bytes of one file; the largest file, ml-25m's ratings, has 0.7 of it."""
MOST_MEMBERS = 10_000
"""Maximum number of files in a tar archive."""
HEADERS = 1 << 26
"""Maximum bytes of a tar archive besides the requested files."""
CHUNK = 1 << 20
"""Bytes unpacked at a time."""

GZIP_MAGIC = b"\x1f\x8b"
ENCRYPTED = 0x1
"""Bit of a zip member's flags."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Accepted compression methods of zip archives; others could request any amount of memory."""

BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, LookupError, ArithmeticError, RuntimeError),  # also raised for damaged files, see the fuzz test
)

Files = Generator[tuple[str, Iterator[bytes]]]
"""Names, each with the chunks of its file; read the chunks before the next name."""


class Refused(ValueError):  # noqa: N818
    """An archive is rejected; the message says why and what to do."""


def read_bytes(path: Path, *, limit: int = LIMIT) -> bytes:
    """Read a file, unpacked if it is gzipped.

    Raises ValueError, naming the file, if the gzip file is broken or unpacks to more than the limit.
    """
    with path.open("rb") as file:
        if file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
            file.seek(0)
            return file.read()
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return b"".join(_chunks(unpacked.read, path, None, limit))


def read_members(archive: Path, folder: str, names: Sequence[str], *, limit: int = LIMIT) -> dict[str, bytes]:
    """Read the named files of a zip or tar archive; see `unpack` for how they are found and what is rejected."""
    with closing(_members(archive, folder, names, limit)) as found:
        return {name: b"".join(chunks) for name, chunks in found}


def unpack(archive: Path, folder: Path, names: Sequence[str], *, limit: int = LIMIT) -> None:
    """Write the named files of a zip or tar archive into a folder: all of them or none, and no others.

    A file is read from `<folder's name>/<name>`, else from `<name>`, else from the only path in the archive with this
    file name. Raises ValueError, naming archive and file, if it is missing, encrypted, compressed with a method other
    than deflate, damaged, or larger than the limit.
    """
    with ExitStack() as written, closing(_members(archive, folder.name, names, limit)) as found:
        for name, chunks in found:
            with written.enter_context(atomic_path(folder / name)).open("wb") as file:
                file.writelines(chunks)


def _members(archive: Path, folder: str, names: Sequence[str], limit: int) -> Files:
    read = _zip_members if archive.suffix == ".zip" else _tar_members
    yield from read(archive, folder, names, limit)


def _zip_members(archive: Path, folder: str, names: Sequence[str], limit: int) -> Files:
    with _explained(archive):
        opened = zipfile.ZipFile(archive)
    with opened:
        infos = [info for info in opened.infolist() if not info.filename.endswith("/")]
        for name, place in _find(archive, folder, names, [info.filename for info in infos]).items():
            info = infos[place]
            if info.flag_bits & ENCRYPTED:
                raise Refused(
                    f"{archive} cannot be read: {info.filename!r} in it is encrypted; unpack it with its password into "
                    f"{archive.parent / folder}, or delete the archive and download it again"
                )
            if info.compress_type not in METHODS:
                raise Refused(
                    f"{archive} cannot be read: {info.filename!r} in it has compression method {info.compress_type}, "
                    f"not deflate; unpack it with another program into {archive.parent / folder}, or delete "
                    "the archive and download it again"
                )
            _check_size(archive, info.filename, info.file_size, limit)
            with _explained(archive, info.filename):
                source = opened.open(info)
            with source:
                yield name, _chunks(source.read, archive, info.filename, limit)


def _tar_members(archive: Path, folder: str, names: Sequence[str], limit: int) -> Files:
    """Read a tar archive, gzipped or not, in two passes: list its files, then yield the requested ones."""
    most = limit * len(names) + HEADERS
    with closing(_tar_files(archive, most)) as listed:
        members = [member.name for member, _ in listed]
    wanted = {place: name for name, place in _find(archive, folder, names, members).items()}
    with closing(_tar_files(archive, most)) as files:
        for place, (member, tar) in enumerate(files):
            if place not in wanted:
                continue
            _check_size(archive, member.name, member.size, limit)
            with _explained(archive, member.name):
                source = tar.extractfile(member)
            assert source is not None, "only files are listed"
            with source:
                yield wanted[place], _chunks(source.read, archive, member.name, limit)


def _tar_files(archive: Path, most: int) -> Generator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield the regular files of a tar archive in order, as a stream: no header can make the reader seek backwards."""
    with ExitStack() as opened:
        file: BinaryIO = opened.enter_context(archive.open("rb"))
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        stream = opened.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
        limited = _Limited(stream.read, archive, most)
        with _explained(archive):
            tar = opened.enter_context(tarfile.open(fileobj=limited, mode="r|", bufsize=CHUNK))
        for _ in range(MOST_MEMBERS):
            with _explained(archive):
                member = tar.next()
            if member is None:
                with _explained(archive):
                    while limited.read(CHUNK):
                        pass  # the checksum of a gzip file is at its end
                return
            if member.isreg():
                yield member, tar
        raise Refused(f"{archive} contains more than {MOST_MEMBERS:,} files: delete it and download it again")


class _Limited(io.RawIOBase):
    """Read a stream up to a limit in bytes; raise Refused beyond it."""

    def __init__(self, read: Callable[[int], bytes], archive: Path, most: int) -> None:
        self._read, self._archive, self._most, self._left = read, archive, most, most

    def read(self, size: int = -1, /) -> bytes:
        data = self._read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Refused(
                f"{self._archive} unpacks to more than {self._most:,} bytes: this is not the published archive; "
                "delete it and download it again"
            )
        return data


def _find(archive: Path, folder: str, names: Sequence[str], members: Sequence[str]) -> dict[str, int]:
    """Return the index of each name among an archive's members."""
    found = {}
    for name in names:
        exact = next((path for path in (f"{folder}/{name}", name) if path in members), None)
        fits = (lambda path, exact=exact: path == exact) if exact else (lambda path, name=name: _is_inside(path, name))
        places = [place for place, path in enumerate(members) if fits(path)]
        if not places:
            raise Refused(f"{archive} does not contain {folder}/{name}: delete it and download it again")
        if len(places) > 1:
            several = ", ".join(repr(members[place]) for place in places[:3])
            raise Refused(
                f"{archive} contains {len(places)} files named {name} ({several}): delete it and download it again"
            )
        found[name] = places[0]
    return found


def _is_inside(path: str, name: str) -> bool:
    """Return whether a member has this file name, in any folder inside the archive."""
    place = PurePosixPath(path)
    return place.name == name and not place.is_absolute() and ".." not in place.parts


def _chunks(read: Callable[[int], bytes], archive: Path, member: str | None, limit: int) -> Iterator[bytes]:
    """Yield the unpacked bytes of a stream in chunks; raise as soon as they exceed the limit."""
    size = 0
    while True:
        with _explained(archive, member):
            chunk = read(CHUNK)
        if not chunk:
            return
        size += len(chunk)
        _check_size(archive, member, size, limit)
        yield chunk


def _check_size(archive: Path, member: str | None, size: int, limit: int) -> None:
    if size > limit:
        what = f"{archive} unpacks" if member is None else f"{archive} cannot be read: {member!r} in it unpacks"
        raise Refused(
            f"{what} to more than {limit:,} bytes: this is not the published file; delete it and download it again"
        )


@contextmanager
def _explained(archive: Path, member: str | None = None) -> Iterator[None]:
    """Convert errors in reading an archive to one-line errors; errors of the file system are passed on unchanged."""
    try:
        yield
    except Refused:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a seek to before its start
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        kind = "gzip file" if archive.suffix not in (".zip", ".tar") and member is None else "archive"
        place = "" if member is None else f"{member!r}: "
        raise Refused(f"{archive} is a broken {kind} ({place}{words}): delete it and download it again") from error
