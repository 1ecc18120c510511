"""Published archives (zip, tar, gzip): read within limits, or refused in one line with what to do.

An archive is not trusted. Its paths only find a file, they never say where one is written; a file that unpacks to more
than a limit is refused while it is read; damage, encryption and unknown compression name the archive and the file in
it. `unpack` writes all the files that are asked for, or none.
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
"""Bytes that one file may unpack to, unless a data set says otherwise: the largest, ml-25m's ratings, has 0.7 of it."""
MOST_MEMBERS = 10_000
"""Files that a tar archive may hold."""
HEADERS = 1 << 26
"""Bytes of a tar archive apart from the files that are asked for."""
CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""

GZIP_MAGIC = b"\x1f\x8b"
ENCRYPTED = 0x1
"""Bit of a zip member's flags."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""How zip archives of data sets are compressed. Others could ask for any amount of memory."""

BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, OSError),
    *(
        ValueError,
        LookupError,
        ArithmeticError,
        RuntimeError,
    ),  # what zipfile and tarfile let through, see the fuzz test
)

Files = Generator[tuple[str, Iterator[bytes]]]
"""Names, each with the chunks of its file, which are read before the next name."""


class Refused(ValueError):  # noqa: N818
    """An archive is not read; the message says why and what to do."""


def read_bytes(path: Path, *, limit: int = LIMIT) -> bytes:
    """Read a file, unpacked where it is gzipped.

    Raises ValueError, naming the file, where the gzip file is broken or unpacks to more than the limit.
    """
    with path.open("rb") as file:
        if file.read(len(GZIP_MAGIC)) != GZIP_MAGIC:
            file.seek(0)
            return file.read()
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return b"".join(_chunks(unpacked.read, path, None, limit))


def read_members(archive: Path, folder: str, names: Sequence[str], *, limit: int = LIMIT) -> dict[str, bytes]:
    """Read the named files of a zip or tar archive; see `unpack` for where they lie and what is refused."""
    with closing(_members(archive, folder, names, limit)) as found:
        return {name: b"".join(chunks) for name, chunks in found}


def unpack(archive: Path, folder: Path, names: Sequence[str], *, limit: int = LIMIT) -> None:
    """Write the named files of a zip or tar archive into a folder, all or none of them, and nothing else.

    A file is taken from `<folder's name>/<name>`, else from `<name>`, else from the one place in the archive that has
    a file of this name. Raises ValueError, naming archive and file, where it is not there, encrypted, compressed in
    another way than by deflate, damaged, or larger than the limit.
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
                    f"{archive} is not read: {info.filename!r} in it is encrypted; unpack it with its password into "
                    f"{archive.parent / folder}, or delete the archive and fetch it again"
                )
            if info.compress_type not in METHODS:
                raise Refused(
                    f"{archive} is not read: {info.filename!r} in it has compression method {info.compress_type}, "
                    f"not deflate; unpack it with another program into {archive.parent / folder}, or delete "
                    "the archive and fetch it again"
                )
            _check_size(archive, info.filename, info.file_size, limit)
            with _explained(archive, info.filename):
                source = opened.open(info)
            with source:
                yield name, _chunks(source.read, archive, info.filename, limit)


def _tar_members(archive: Path, folder: str, names: Sequence[str], limit: int) -> Files:
    """Read a tar archive, gzipped or not, twice from front to back: which files it holds, and those asked for."""
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
    """Yield the regular files of a tar archive in their order, as a stream: nothing in it can send the reader back."""
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
        raise Refused(f"{archive} holds more than {MOST_MEMBERS:,} files: delete it and fetch it again")


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
                "delete it and fetch it again"
            )
        return data


def _find(archive: Path, folder: str, names: Sequence[str], members: Sequence[str]) -> dict[str, int]:
    """Find the place of each name among an archive's members."""
    found = {}
    for name in names:
        exact = next((path for path in (f"{folder}/{name}", name) if path in members), None)
        fits = (lambda path, exact=exact: path == exact) if exact else (lambda path, name=name: _is_inside(path, name))
        places = [place for place, path in enumerate(members) if fits(path)]
        if not places:
            raise Refused(f"{archive} holds no {folder}/{name}: delete it and fetch it again")
        if len(places) > 1:
            several = ", ".join(repr(members[place]) for place in places[:3])
            raise Refused(f"{archive} holds {len(places)} files {name} ({several}): delete it and fetch it again")
        found[name] = places[0]
    return found


def _is_inside(path: str, name: str) -> bool:
    """Whether a member has this name, in whichever folder, as long as the folder is one of the archive."""
    place = PurePosixPath(path)
    return place.name == name and not place.is_absolute() and ".." not in place.parts


def _chunks(read: Callable[[int], bytes], archive: Path, member: str | None, limit: int) -> Iterator[bytes]:
    """Yield what a stream unpacks to, piece by piece; raise as soon as it is more than the limit."""
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
        what = f"{archive} unpacks" if member is None else f"{archive} is not read: {member!r} in it unpacks"
        raise Refused(
            f"{what} to more than {limit:,} bytes: this is not the published file; delete it and fetch it again"
        )


@contextmanager
def _explained(archive: Path, member: str | None = None) -> Iterator[None]:
    """Turn what reading an archive may raise into one line; an error of the file system stays what it is."""
    try:
        yield
    except Refused:
        raise
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before its start
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        kind = "gzip file" if archive.suffix not in (".zip", ".tar") and member is None else "archive"
        place = "" if member is None else f"{member!r}: "
        raise Refused(f"{archive} is a broken {kind} ({place}{words}): delete it and fetch it again") from error
