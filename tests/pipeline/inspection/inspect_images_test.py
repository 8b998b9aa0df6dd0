"""A decoder that hangs or crashes costs one photograph, not the preparation."""

import functools
import time

import fakes
import pytest
from fakes import image_files

from pipeline import prepare
from pipeline.inspection import inspect_images, opening
from pipeline.inspection.inspect_images import DECODING_SECONDS
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage
from pipeline.system import own_process, parallel

# A package that Python finds in place of pillow_heif. What its decoder does, the file
# says behind the first box.
FAKE_READER = """
import os, signal, sys, time
from PIL import Image, ImageFile

class Heif(ImageFile.ImageFile):
    format = "HEIF"

    def _open(self):
        self._size, self._mode = (64, 48), "RGB"

    def load(self):
        content = self.fp.read() if self.fp else b""
        if b"sleeps" in content:
            time.sleep(3600)
        if b"dies" in content:
            print("a nameless line", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"exits" in content:
            os._exit(3)
        if b"raises" in content:
            raise RuntimeError("the decoder has a mistake")
        self.im = Image.new("RGB", self._size, (200, 90, 0)).im
        return Image.Image.load(self)

def register_heif_opener():
    Image.register_open("HEIF", Heif, lambda start: start[4:8] == b"ftyp")
"""
BOX = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

PROBLEMS = {
    "a/dies": "cannot be decoded: its decoder crashes (SIGSEGV)",
    "a/exits": "cannot be decoded: its decoder crashes (exit code 3)",
    "a/raises": "cannot be decoded: its decoder fails: RuntimeError",
    "a/sleeps": "cannot be decoded: its decoder takes more than 1 seconds",
}


@pytest.fixture
def fake_reader(tmp_path, monkeypatch):
    """Lets the processes that decode find the fake reader."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "pillow_heif.py").write_text(FAKE_READER)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setattr(inspect_images, "DECODING_SECONDS", 1)


def _images(contents):
    return [
        SourceImage(name, name[0], functools.partial(bytes, content))
        for name, content in sorted(contents.items())
    ]


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, 3])
def test_a_decoder_that_hangs_or_crashes_costs_its_own_image(
    fake_reader, monkeypatch, capfd, cores
):
    monkeypatch.setattr(parallel, "count_cores", lambda: cores)
    contents = {name: BOX + name.encode() for name in PROBLEMS}
    contents |= {f"a/{index}": BOX + bytes([index]) for index in range(40)}
    contents |= {"a/plain": image_files.photograph(), "a/text": b"words"}
    reports = inspect_images.inspect_images(_images(contents), min_side_px=16)
    assert [report.image.name for report in reports] == sorted(contents)
    problems = {r.image.name: r.problem for r in reports if r.problem is not None}
    assert problems == {**PROBLEMS, "a/text": "not an image"}
    sizes = {(r.width, r.height) for r in reports if r.image.name[2:].isdigit()}
    assert sizes == {(64, 48)}
    assert "nameless" not in capfd.readouterr().err


@pytest.mark.slow
def test_the_other_photographs_are_prepared(fake_reader, tmp_path):
    folder = fakes.write_folder(tmp_path / "photos", per_class=12)
    for name in ("sleeps", "dies"):
        (folder / "square" / f"{name}.heic").write_bytes(BOX + name.encode())
    prepare.prepare(str(folder), str(tmp_path / "data"))
    table = (tmp_path / "data" / "audit.csv").read_text()
    for name in ("sleeps", "dies"):
        assert (
            f'"left out, {PROBLEMS[f"a/{name}"]}",square/{name}.heic,,left out' in table
        )


@pytest.mark.slow
def test_the_processes_are_ended_with_the_call(monkeypatch):
    """Also if it is interrupted while a function hangs."""
    started = []
    start = own_process._start
    monkeypatch.setattr(
        own_process, "_start", lambda *args: started.append(start(*args)) or started[-1]
    )

    def interrupt(answers, **_):
        assert next(answers) is None
        raise KeyboardInterrupt

    monkeypatch.setattr(own_process.console, "track", interrupt)
    with pytest.raises(KeyboardInterrupt):
        own_process.map_in_own_processes(
            time.sleep,
            [0, 3600, 3600],
            seconds=DECODING_SECONDS,
            label="",
            unit="",
            preload=inspect_images.__name__,
        )
    assert started
    for worker in started:
        worker.process.join(10)
        assert not worker.process.is_alive()


@pytest.mark.parametrize(
    ("image_format", "expected"),
    [
        *(("JPEG", True), ("PNG", True), ("GIF", True), ("BMP", True)),
        *(("WEBP", False), ("TIFF", False), ("JPEG2000", False), ("AVIF", False)),
    ],
)
def test_only_common_formats_are_decoded_in_this_process(image_format, expected):
    assert opening.is_common(image_files.encode(image_format)) is expected


def test_a_folder_of_common_formats_starts_no_process(monkeypatch):
    monkeypatch.setattr(own_process, "_start", None)
    images = _images(
        {f"a/{kind}": image_files.encode(kind) for kind in ("JPEG", "BMP", "GIF")}
        | {"a/web": b"<html>", "a/empty": b""}
    )
    reports = inspect_images.inspect_images(images, min_side_px=16)
    assert [report.problem for report in reports] == [
        *(None, None, None, "empty file", "not an image, but a web page")
    ]


def test_no_decoder_prints_a_line_that_names_no_photograph(capfd):
    image_bytes = image_files.encode("JPEG", "CMYK")  # TensorFlow decodes it.
    end = image_bytes.rindex(b"\xff\xd9")
    damaged = image_bytes[:end] + b"\x12" * 100 + image_bytes[end:]
    images = _images({"a/damaged": damaged, "a/short": image_bytes[: end - 20]})
    reports = inspect_images.inspect_images(images, min_side_px=16)
    assert [report.problem for report in reports] == [
        *(None, "damaged: cannot be decoded")
    ]
    assert inspect_images.hash_pixels(images[:1], form=StoredForm()).keys() == {
        "a/damaged"
    }
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "inspecting: 2/2 images",
        "inspecting with TensorFlow: 2/2 images",
        "comparing: 1/1 images",
    ]
