"""Downloads: verified, with a short timeout, and without leftovers after a failure."""

import hashlib
import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.data import source
from common.data.images.loading import ImageSetName, load_images

CONTENT = b"four original files" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def mirror(monkeypatch):
    """A mirror on this machine; yields its address."""
    monkeypatch.delenv("DATA_OFFLINE")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path != "/gone" else 404)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(CONTENT if self.path == "/good" else b"<html>captive portal</html>")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_first_mirror_with_the_right_bytes_is_used(mirror, tmp_path):
    source.fetch([f"{mirror}/gone", f"{mirror}/wrong", f"{mirror}/good"], tmp_path / "a" / "file", MD5)
    assert (tmp_path / "a" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_wrong_bytes_are_discarded_and_every_reason_is_reported(mirror, tmp_path):
    with pytest.raises(source.DataUnavailable) as error:
        source.fetch([f"{mirror}/wrong", f"{mirror}/gone"], tmp_path / "file", MD5)
    assert "/wrong: the checksum differs" in str(error.value)
    assert "/gone: Not Found" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_sha256_is_checked_too(mirror, tmp_path):
    source.fetch([f"{mirror}/wrong", f"{mirror}/good"], tmp_path / "file", hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(source.DataUnavailable, match="/good: the checksum differs"):
        source.fetch([f"{mirror}/good"], tmp_path / "other", "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_simultaneous_downloads_succeed(mirror, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: source.fetch([f"{mirror}/good"], tmp_path / "file", MD5), range(8)))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unresponsive_network_is_detected_within_seconds(monkeypatch, tmp_path):
    monkeypatch.delenv("DATA_OFFLINE")
    monkeypatch.setattr(source, "PROBE_SECONDS", 0.2)
    over = threading.Event()

    def hang(*arguments, **options):
        over.wait(30)
        raise OSError("too late")

    monkeypatch.setattr(source.urllib.request, "urlopen", hang)
    start = time.perf_counter()
    with pytest.raises(source.DataUnavailable, match=r"no answer within 0\.2 seconds"):
        source.fetch(["http://mirror.invalid/x"], tmp_path / "file", MD5)
    assert time.perf_counter() - start < 15
    over.set()


def test_a_read_only_folder_is_reported_as_a_reason(monkeypatch, tmp_path):
    monkeypatch.delenv("DATA_OFFLINE")
    (tmp_path / "file").write_text("")
    with pytest.raises(source.DataUnavailable, match=r"Not a directory|File exists"):
        source.fetch(["http://mirror.invalid/x"], tmp_path / "file" / "x", MD5)


def test_offline_mode_is_reported(tmp_path):
    with pytest.raises(source.DataUnavailable, match="DATA_OFFLINE is set"):
        source.fetch(["http://mirror.invalid/x"], tmp_path / "file", MD5)


def test_a_missing_set_error_names_set_folder_reason_and_embedded_set():
    names: list[tuple[ImageSetName, str]] = [("mnist", "digits"), ("fashion-mnist", "digits"), ("cifar-10", "shapes")]
    for name, stand_in in names:
        with pytest.raises(source.DataUnavailable) as error:
            load_images(name)
        for part in (f"{name} is not in {source.data_dir()}", "DATA_OFFLINE is set", f"--data {stand_in}"):
            assert part in str(error.value)


def test_data_dir_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/elsewhere")
    assert str(source.data_dir()) == "/elsewhere"
    monkeypatch.setenv("DATA_DIR", "")
    assert str(source.data_dir()) == "data"
