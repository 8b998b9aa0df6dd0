import io
import json
import os
import pathlib

import fakes
import numpy as np
import pytest
from PIL import Image

from export import drift
from export.drift_check import answers, asking, reference

pytestmark = pytest.mark.slow


def _draw(index: int) -> Image.Image:
    """Clouds of a random colour, without near duplicates; blue is the rarest."""
    rng = np.random.default_rng(index)
    small = rng.uniform(0, 120, (9, 9, 1)) + rng.uniform(0, 90, 3) * (1.2, 1, 0.8)
    clouds = Image.fromarray(small.clip(0, 255).astype(np.uint8))
    return clouds.resize((64, 64), Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()


def _write(folder: pathlib.Path, indices, *, darken: int = 1) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    for index in indices:
        image = _draw(index).point(lambda value: value // darken)
        (folder / f"{index}.jpg").write_bytes(_jpeg(image))
    return folder


@pytest.fixture(scope="module")
def export_dir(tmp_path_factory) -> pathlib.Path:
    """Version 7, with a reference of 60 photographs, and version 6 without one."""
    base = tmp_path_factory.mktemp("export")
    model = fakes.write_servable(tmp_path_factory.mktemp("models") / "first")
    for number in (6, 7):
        fakes.publish(model, base, number)
    with asking.open_version(base / "7") as ask:
        images = [_jpeg(_draw(index)) for index in range(160)]
        training = answers.embed(ask, images[60:])
        validation = answers.join(list(answers.ask_in_batches(ask, images[:60], list)))
    made = reference.make_reference(validation, training, fakes.COLOURS)
    assert made.count == 60
    reference.write_reference(base / "7", made)
    return base


def _run(arguments, export_dir, out_dir, *, server=None):
    arguments = [str(argument) for argument in arguments]
    return drift.run(arguments, export_dir, server, out_dir, limit=0.01)


def _command(export_dir, *arguments):
    return fakes.run(
        *("-m", "export.drift", f"--export_dir={export_dir}", *map(str, arguments))
    )


def test_unchanged_photographs_are_no_drift_and_dark_ones_end_in_1(
    export_dir, tmp_path
):
    plain = _write(tmp_path / "plain", range(1000, 1030))
    done = _command(export_dir, plain, f"--out={tmp_path / 'o'}", "--fail_below=0.01")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no drift found (p = ")
    dark = _write(tmp_path / "dark", range(1000, 1030), darken=3)
    (dark / "<b>broken\x1b[31m.jpg").write_bytes(b"no image")
    (dark / "notes\x1b[31m.txt").write_text("no photograph")
    done = _command(export_dir, dark, f"--out={tmp_path / 'o'}", "--fail_below=0.01")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(
        "drift found (p < 0.0001, 30 new photographs against 60"
    )
    assert "they are darker: the mean brightness is" in done.stdout
    assert r"<b>broken\x1b[31m.jpg: not decodable" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        *("drift.html", "drift.json")
    ]
    report = json.loads((tmp_path / "o" / "drift.json").read_text())
    assert report["version"] == str(export_dir / "7")
    assert report["photographs"]["left_out"] == 1
    assert "<b>" not in (tmp_path / "o" / "drift.html").read_text()
    # Drift is no failure unless the user asks for it.
    assert _command(export_dir, dark, f"--out={tmp_path / 'o'}").returncode == 0


def test_a_server_gives_the_same_figures(export_dir, tmp_path):
    photographs = _write(tmp_path / "p", range(1000, 1020), darken=2)
    local = _run([photographs], export_dir, tmp_path / "a")
    with fakes.Server(export_dir) as server:
        remote = _run([photographs], export_dir, tmp_path / "b", server=server.grpc)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        with pytest.raises(ValueError, match=r"runs version 7, whose reference is not"):
            _run([photographs], elsewhere, tmp_path / "c", server=server.grpc)
    assert remote == local
    assert not (tmp_path / "c").exists()


def test_names_that_are_no_utf_8_are_written(export_dir, tmp_path):
    photographs = _write(tmp_path / "p", range(1000, 1012))
    os.rename(photographs / "1003.jpg", os.fsencode(photographs) + b"/caf\xe9.jpg")
    report = _run([photographs], export_dir, tmp_path / "o")
    names = {os.path.basename(row["name"]) for row in report["unusual"]}
    assert r"caf\udce9.jpg" in names
    page = (tmp_path / "o" / "drift.html").read_text()
    assert page.count("data:image/jpeg") == 12


def test_photographs_are_turned_upright(export_dir, tmp_path):
    photographs = _write(tmp_path / "p", range(1000, 1012))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = _draw(1003).transpose(Image.Transpose.ROTATE_90)
    turned.save(photographs / "1003.jpg", quality=100, exif=exif)
    paths = {photographs / "1003.jpg", photographs / "1004.jpg"}
    assert len(paths) == 2
    _write(tmp_path / "q", range(1000, 1012))
    report = _run([photographs], export_dir, tmp_path / "o")
    upright = _run([tmp_path / "q"], export_dir, tmp_path / "o")
    for found, expected in zip(report["measures"], upright["measures"], strict=True):
        assert found["new"] == pytest.approx(expected["new"], abs=0.003)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "No photograph was found: no file has the suffix of an image, such as"),
        (
            [b"", b"no image"],
            "None of the photographs can be read and decoded. Received: 2, the",
        ),
        (range(5), "At least 10 photographs are needed, and 50 or more tell much more"),
    ],
)
def test_photographs_that_are_not_enough_are_refused(
    export_dir, tmp_path, content, problem
):
    folder = tmp_path / "p"
    folder.mkdir()
    for index, item in enumerate(content):
        image_bytes = item if isinstance(item, bytes) else _jpeg(_draw(item))
        (folder / f"{index}.jpg").write_bytes(image_bytes)
    with pytest.raises(ValueError, match=problem):
        _run([folder], export_dir, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_an_export_that_cannot_be_compared_is_refused(export_dir, tmp_path):
    photographs = _write(tmp_path / "p", range(1000, 1012))
    old = tmp_path / "old"
    old.mkdir()
    (export_dir / "6").rename(old / "6")
    with pytest.raises(ValueError, match=r"old/6 has no reference .* 0\.3\.0"):
        _run([photographs], old, tmp_path / "o")
    (old / "6").rename(export_dir / "6")
    with pytest.raises(ValueError, match=r"Received: --export_dir=.*has no version"):
        _run([photographs], old, tmp_path / "o")
    with pytest.raises(ValueError, match=r"nowhere, which does not exist"):
        _run([photographs], tmp_path / "nowhere", tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--server=localhost"],
            "--server must be HOST:PORT. Received: --server=local",
        ),
        (["--server=localhost:1"], "localhost:1 (gRPC): "),
        (["--fail_below=0"], "--fail_below"),
    ],
)
def test_mistakes_are_one_line(export_dir, tmp_path, flags, problem):
    photographs = _write(tmp_path / "p", range(1000, 1012))
    done = _command(export_dir, photographs, f"--out={tmp_path / 'o'}", *flags)
    assert done.returncode == 1
    assert problem in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("export.drift: error: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()
