"""Archives: valid ones are read, all others are rejected with one line that names the file."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import archives, source
from common.data.images import binary
from common.data.images.loading import FOLDER, load_images
from common.data.ratings import movielens
from common.data.text import corpora, sentences
from common.files import read_json

CONTENT = {"a.txt": b"first, first, first\n" * 40, "b.txt": bytes(range(256)) * 3}


def make_zip(content=CONTENT, folder="set/", method=zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, data in content.items():
            file.writestr(zipfile.ZipInfo(folder + name), data, method)
    return packed.getvalue()


def make_tar(content=CONTENT, folder="set/", headers=()) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for header in headers:
            tar.addfile(header)
        for name, data in content.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def patched(data: bytes, *, local: int, central: int, value: bytes) -> bytes:
    """Change a field of the first member's two headers in a zip archive."""
    found, places = bytearray(data), ((b"PK\x03\x04", local), (b"PK\x01\x02", central))
    for magic, offset in places:
        at = data.index(magic) + offset
        found[at : at + len(value)] = value
    return bytes(found)


@pytest.fixture
def refused(tmp_path):
    """Unpack an archive that must be rejected; return the one-line message, and check that nothing was written."""

    def call(name: str, data: bytes, limit=archives.LIMIT) -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError) as error:  # noqa: PT011
            archives.unpack(tmp_path / name, tmp_path / "set", list(CONTENT), limit=limit)
        line = str(error.value)
        assert line.startswith(str(tmp_path / name))
        assert "\n" not in line
        assert "download it again" in line
        assert not list(tmp_path.glob("set/*"))
        return line.removeprefix(str(tmp_path))

    return call


@pytest.mark.parametrize("folder", ["set/", "", "some/where/"])
@pytest.mark.parametrize("kind", ["zip", "stored.zip", "tar", "tar.gz"])
def test_files_are_read_from_any_folder_of_the_archive(kind, folder, tmp_path):
    make = {
        "zip": make_zip(folder=folder),
        "stored.zip": make_zip(folder=folder, method=zipfile.ZIP_STORED),
        "tar": make_tar(folder=folder),
        "tar.gz": gzip.compress(make_tar(folder=folder)),
    }
    archive = tmp_path / f"x.{kind}"
    archive.write_bytes(make[kind])
    archives.unpack(archive, tmp_path / "set", list(CONTENT))
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == CONTENT
    assert archives.read_members(archive, "set", ["b.txt"]) == {"b.txt": CONTENT["b.txt"]}


def test_gzipped_and_plain_files_are_equal(tmp_path):
    for data in (b"", b"\x1f", b"text" * 1000):
        for packed in (data, gzip.compress(data), gzip.compress(data[:9]) + gzip.compress(data[9:])):
            (tmp_path / "x").write_bytes(packed)
            assert archives.read_bytes(tmp_path / "x") == data


def test_a_member_without_a_name_is_ignored(tmp_path):
    (tmp_path / "x.zip").write_bytes(make_zip({"": b"nameless"} | CONTENT, ""))
    assert archives.read_members(tmp_path / "x.zip", "set", list(CONTENT)) == CONTENT


# What is refused.


def test_a_corrupt_deflate_stream_names_the_file_in_the_archive(refused):
    data = bytearray(make_zip())
    start = data.index(b"set/a.txt") + len("set/a.txt")
    data[start] = 0xFF  # a block of a type that deflate does not have
    assert refused("x.zip", bytes(data)).startswith(
        "/x.zip is a broken archive ('set/a.txt': Error -3 while decompressing data: invalid block type): delete it"
    )


def test_content_with_a_wrong_checksum_is_rejected(refused, monkeypatch):
    data = make_zip(method=zipfile.ZIP_STORED).replace(b"first, first", b"other, other", 1)
    assert "'set/a.txt': Bad CRC-32" in refused("x.zip", data)
    monkeypatch.setattr(archives, "CHUNK", 512)  # the checksum at the end is checked for every size
    packed = bytearray(gzip.compress(make_tar()))
    packed[-6] ^= 1
    assert "is a broken" in refused("x.tar.gz", bytes(packed))


def test_an_encrypted_file_is_named(refused):
    data = patched(make_zip(), local=6, central=8, value=b"\x01\x00")
    assert "'set/a.txt' in it is encrypted; unpack it with its password into" in refused("x.zip", data)


@pytest.mark.parametrize("method", [99, 9, 12, 14])
def test_an_unknown_compression_method_is_named(refused, method):
    data = patched(make_zip(), local=8, central=10, value=struct.pack("<H", method))
    said = refused("x.zip", data)
    assert f"'set/a.txt' in it has compression method {method}, not deflate; unpack it with another program" in said


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.zip", b""),
        ("x.zip", b"<html>captive portal</html>"),
        ("x.zip", b"PK\x03\x04 cut short"),
        ("x.zip", make_zip()[:-30]),
        ("x.tar.gz", b"no archive"),
        ("x.tar.gz", b""),
        ("x.tar.gz", gzip.compress(make_tar(), mtime=0)[:-200]),
        ("x.tar.gz", gzip.compress(b"no archive" * 200, mtime=0)),
        ("x.tar", make_tar()[:700]),
    ],
)
def test_truncated_and_invalid_archives_are_rejected(refused, name, data):
    assert "is a broken" in refused(name, data)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
@pytest.mark.parametrize("path", ["../set/a.txt", "/set/a.txt", "..\\set\\a.txt", "x/../../a.txt"])
def test_paths_outside_the_archive_are_ignored(refused, name, path, tmp_path):
    content = {path: b"evil", "set/b.txt": b"good"}
    data = make_zip(content, "") if name == "x.zip" else gzip.compress(make_tar(content, ""))
    assert "does not contain set/a.txt" in refused(name, data)
    assert sorted(path.name for path in tmp_path.rglob("*")) in ([name], [name, "set"])


def test_links_and_devices_of_a_tar_archive_are_ignored(refused):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        link = tarfile.TarInfo("set/a.txt")
        link.type, link.linkname = kind, "/etc/passwd"
        data = make_tar({"b.txt": b""}, headers=[link])
        assert "does not contain set/a.txt" in refused("x.tar", data)


def test_an_ambiguous_file_name_is_rejected(refused):
    data = make_zip({"a.txt": b"one", "c.txt": b"two"}).replace(b"set/c.txt", b"set/a.txt")
    assert "contains 2 files named a.txt ('set/a.txt', 'set/a.txt')" in refused("x.zip", data)
    content = {"one/a.txt": b"1", "two/a.txt": b"2"}
    assert "contains 2 files named a.txt ('one/a.txt', 'two/a.txt')" in refused("x.tar", make_tar(content, ""))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_nothing_is_written_if_the_last_file_is_broken(refused, name):
    if name == "x.zip":
        data = make_zip(method=zipfile.ZIP_STORED).replace(bytes(range(256)), bytes(256), 1)
    else:
        data = make_tar()
        data = data[: data.index(bytes(range(100))) + 600]
        data = gzip.compress(data) if name == "x.tar.gz" else data
    assert "is a broken" in refused(name, data)


BOMB = {"a.txt": bytes(1 << 26), "b.txt": b""}


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.gz"])
def test_a_zip_bomb_is_rejected_before_it_fills_the_memory(name, tmp_path):
    make = {
        "x.zip": make_zip,
        "x.tar.gz": lambda c: gzip.compress(make_tar(c), 1),
        "x.gz": lambda c: gzip.compress(c["a.txt"], 1),
    }
    (tmp_path / name).write_bytes(make[name](BOMB))
    tracemalloc.start()
    read = archives.read_bytes if name == "x.gz" else partial(archives.read_members, folder="set", names=list(BOMB))
    with pytest.raises(ValueError, match=r"unpacks to more than 1,000,000 bytes.*delete it and download it again"):
        read(tmp_path / name, limit=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_zip_bomb_with_a_wrong_size_in_its_header_is_rejected(refused):
    data = patched(make_zip(BOMB), local=22, central=24, value=struct.pack("<I", 10))
    assert "Bad CRC-32" in refused("x.zip", data, limit=1_000_000)


def test_a_tar_archive_beyond_the_limits_is_rejected(refused, monkeypatch):
    monkeypatch.setattr(archives, "HEADERS", 50_000)
    data = gzip.compress(make_tar({"padding": bytes(100_000), **CONTENT}))
    assert "unpacks to more than 54,000 bytes: this is not the published archive" in refused(
        "x.tar.gz", data, limit=2_000
    )
    monkeypatch.setattr(archives, "MOST_MEMBERS", 20)
    many = [tarfile.TarInfo(f"set/{number}") for number in range(30)]
    assert "contains more than 20 files" in refused("x.tar.gz", gzip.compress(make_tar(headers=many)))


def test_nested_headers_are_rejected(refused):
    name = tarfile.TarInfo("././@LongLink")
    name.type = tarfile.GNUTYPE_LONGNAME
    assert "is a broken" in refused("x.tar.gz", gzip.compress(name.tobuf() * 3_000 + make_tar()))


def test_a_name_with_line_ends_is_reported_in_one_line(refused):
    content = {"x/a.txt": b"", "evil\n\x1b[2J/a.txt": b""}
    assert r"'evil\n\x1b[2J/a.txt'" in refused("x.tar", make_tar(content, ""))


def test_file_system_errors_are_passed_on(tmp_path):
    with pytest.raises(FileNotFoundError):
        archives.unpack(tmp_path / "x.zip", tmp_path, ["a"])
    (tmp_path / "x.zip").write_bytes(make_zip())
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(FileExistsError):
        archives.unpack(tmp_path / "x.zip", tmp_path / "set", list(CONTENT))


# Anything at all.


BASES = {
    "x.zip": make_zip(),
    "y.zip": make_zip(method=zipfile.ZIP_STORED),
    "x.tar": make_tar(),
    "x.tar.gz": gzip.compress(make_tar(), mtime=0),
}
edits = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False, exclude_max=True), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def spoiled(data: bytes, changes, keep: float) -> bytes:
    found = bytearray(data)
    for place, value in changes:
        at = int(place * len(found))
        found[at : at + len(value)] = value
    return bytes(found[: max(1, round(keep * len(found)))])


@settings(max_examples=250, deadline=None)
@given(
    name=st.sampled_from(list(BASES)),
    changes=edits,
    keep=st.just(1.0) | st.floats(0, 1, allow_subnormal=False),
    inside=st.booleans(),
)
def test_a_damaged_archive_is_read_or_rejected_in_one_line(name, changes, keep, inside, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    if name == "x.tar.gz" and inside:
        data = gzip.compress(spoiled(BASES["x.tar"], changes, keep), 1)
    else:
        data = spoiled(BASES[name], changes, keep)
    (folder / name).write_bytes(data)
    try:
        archives.unpack(folder / name, folder / "set", list(CONTENT), limit=100_000)
    except ValueError as error:
        line = str(error)
        assert line.startswith(str(folder / name))
        assert "\n" not in line
        assert not list(folder.glob("set/*"))
    else:
        found = {path.name: path.read_bytes() for path in (folder / "set").iterdir()}
        assert found.keys() == CONTENT.keys()
        if name.endswith(".zip"):
            assert found == CONTENT, "a checksum was not checked"
    assert {path.name for path in folder.iterdir()} <= {name, "set"}


@settings(max_examples=60, deadline=None)
@given(changes=edits, keep=st.just(1.0) | st.floats(0, 1, allow_subnormal=False))
def test_a_damaged_gzip_file_is_read_or_rejected_in_one_line(changes, keep, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "x"
    whole = CONTENT["a.txt"]
    path.write_bytes(b"\x1f\x8b" + spoiled(gzip.compress(whole, mtime=0), changes, keep)[2:])
    try:
        assert archives.read_bytes(path, limit=100_000) == whole
    except ValueError as error:
        line = str(error)
        assert line.startswith(f"{path} ")
        assert "\n" not in line


# Every data set reads its archive so.


def corrupt(data: bytes) -> bytes:
    found = bytearray(data)
    first = data.index(b"PK\x03\x04")
    start = first + 30 + struct.unpack_from("<H", data, first + 26)[0]
    found[start : start + 4] = b"\xff" * 4
    return bytes(found)


DAMAGE = {
    "is a broken archive": corrupt,
    "is encrypted": lambda data: patched(data, local=6, central=8, value=b"\x01\x00"),
    "has compression method 99": lambda data: patched(data, local=8, central=10, value=b"\x63\x00"),
}


@pytest.mark.parametrize("message", DAMAGE)
@pytest.mark.parametrize(
    ("archive", "names", "load"),
    [
        ("ml-100k.zip", ["ml-100k/u.data", "ml-100k/u.item"], lambda: movielens.collect("ml-100k")),
        ("SST-2.zip", ["SST-2/train.tsv", "SST-2/dev.tsv"], lambda: sentences.load_sentences("sst-2")),
        (
            "wikitext-2.zip",
            [f"x/{name}" for name in corpora.WIKITEXT_SHA256],
            lambda: corpora.load_corpus("wikitext-2"),
        ),
    ],
)
def test_every_zip_archive_of_a_data_set_is_read_here(archive, names, load, message):
    path = source.data_dir() / archive
    path.parent.mkdir(parents=True)
    path.write_bytes(DAMAGE[message](make_zip(dict.fromkeys(names, b"text\n" * 20), "")))
    with pytest.raises(ValueError, match=f"^{path} .*{message}") as error:
        load()
    assert repr(names[0]) in str(error.value)


def test_the_tar_archive_of_cifar_and_gzipped_files_are_read_here(tmp_path):
    source.data_dir().mkdir()
    archive = source.data_dir() / "cifar-10-binary.tar.gz"
    archive.write_bytes(gzip.compress(make_tar())[:-40])
    with pytest.raises(ValueError, match=f"^{archive} is a broken"):
        load_images("cifar-10")
    assert not (source.data_dir() / FOLDER["cifar-10"]).exists()
    (tmp_path / "idx").write_bytes(gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x09123456789")[:-1])
    with pytest.raises(ValueError, match="is a broken gzip file"):
        binary.read_idx(tmp_path / "idx")


def test_no_other_module_opens_an_archive():
    root = Path(__file__).resolve().parent.parent
    sources = [
        path for folder in ("common", *(p.name for p in root.glob("ch*"))) for path in (root / folder).rglob("*.py")
    ]
    words = ("import zipfile", "import tarfile", "import gzip", "import bz2", "import lzma")
    assert len(sources) > 100
    assert [path.name for path in sources if any(word in path.read_text() for word in words)] == ["archives.py"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_deeply_nested_json_is_one_clear_error(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON: maximum recursion depth exceeded"):
        read_json(tmp_path / "x.json")
