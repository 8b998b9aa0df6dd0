"""Inspects all images of a source, and compares the pixels of those that look alike."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence

from pipeline.inspection import jpeg, reencoding
from pipeline.inspection.image_report import ImageReport, Needs, inspect_image
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.images import SourceImage
from pipeline.system import beam, own_process, parallel
from pipeline.system.beam import BeamRunner
from pipeline.system.own_process import Failure

# The longest that decoding one image may take. The slowest that the other limits allow
# needs half of it; see docs/decisions/0050-regular-files-in-time.md.
DECODING_SECONDS = 60.0


def inspect_images(
    images: Sequence[SourceImage],
    *,
    min_side_px: int,
    form: StoredForm = StoredForm(),
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> list[ImageReport]:
    """Inspects every image, on all cores or on the workers of a Beam runner.

    Args:
      images: the images, sorted by name.
      min_side_px: smaller images get a problem.
      form: how the images will be stored. Without sample_bits these are found out: the
        most that any 16-bit image uses. If that is less than 16, these images are
        inspected again.
      beam_runner: None uses the cores of this machine.
      work_dir: where the workers of the Beam runner write their results.

    Returns:
      One report per image, in the order of the images. The reports of 16-bit images
      have the sample_bits that all these images are stored with.
    """
    inspect = functools.partial(inspect_image, min_side_px=min_side_px)
    run = functools.partial(_inspect_each, beam_runner=beam_runner, work_dir=work_dir)
    reports = run(images, functools.partial(inspect, form=form), label="inspecting")
    found_bits = find_sample_bits(reports)
    if found_bits is None or form.sample_bits is not None:
        return reports
    again = [r.image for r in reports if r.sample_bits]
    if found_bits < 16:
        form = dataclasses.replace(form, sample_bits=found_bits)
        inspect = functools.partial(inspect, form=form)
        report_of = {
            report.image.name: report
            for report in run(again, inspect, label="inspecting 16-bit images")
        }
        reports = [report_of.get(report.image.name, report) for report in reports]
    return [
        dataclasses.replace(report, sample_bits=found_bits)
        if report.sample_bits
        else report
        for report in reports
    ]


def find_sample_bits(reports: Sequence[ImageReport]) -> int | None:
    """Returns the most bits that any 16-bit image uses; None without such an image."""
    return max((report.sample_bits for report in reports), default=0) or None


def _inspect_each(
    images: Sequence[SourceImage],
    inspect: Callable[..., ImageReport | Needs],
    *,
    label: str,
    beam_runner: BeamRunner | None,
    work_dir: pathlib.Path | None,
) -> list[ImageReport]:
    if beam_runner is not None and work_dir is not None:
        parallel.load_tensorflow()
        beam_reports = beam.beam_map(beam_runner, inspect, images, work_dir=work_dir)
        return sorted(
            (report for report in beam_reports if isinstance(report, ImageReport)),
            key=lambda report: report.image.name,
        )
    # Most folders hold only plain JPEG files, which are checked without TensorFlow.
    results = dict(
        zip(
            images,
            parallel.parallel_map(
                functools.partial(
                    inspect, decode=jpeg.decode_plain_jpeg, only_common=True
                ),
                images,
                label=label,
                unit="images",
                needs_tensorflow=False,
                preload=__name__,
            ),
            strict=True,
        )
    )
    uncommon = [image for image in images if results[image] is Needs.OWN_PROCESS]
    results |= _inspect_in_own_processes(
        uncommon, inspect, label=f"{label} other formats"
    )
    others = [image for image in images if results[image] is Needs.TENSORFLOW]
    results |= zip(
        others,
        parallel.parallel_map(
            inspect,
            others,
            label=f"{label} with TensorFlow",
            unit="images",
            needs_tensorflow=True,
            preload=__name__,
        ),
        strict=True,
    )
    reports = [results[image] for image in images]
    return [report for report in reports if isinstance(report, ImageReport)]


def _inspect_in_own_processes(
    images: Sequence[SourceImage],
    inspect: Callable[..., ImageReport | Needs],
    *,
    label: str,
) -> dict[SourceImage, ImageReport | Needs]:
    answers = own_process.map_in_own_processes(
        functools.partial(inspect, decode=jpeg.decode_uncommon),
        images,
        seconds=DECODING_SECONDS,
        label=label,
        unit="images",
        preload=__name__,
    )
    return {
        image: ImageReport(image, f"cannot be decoded: its decoder {answer.reason}")
        if isinstance(answer, Failure)
        else answer
        for image, answer in zip(images, answers, strict=True)
    }


def hash_pixels(
    images: Sequence[SourceImage],
    *,
    form: StoredForm,
    beam_runner: BeamRunner | None = None,
    work_dir: pathlib.Path | None = None,
) -> dict[str, str]:
    """Returns name -> SHA-256 of the decoded pixels of the image to store.

    The arguments are those of inspect_images.
    """
    hash_image = functools.partial(_hash_pixels_of, form=form)
    if beam_runner is not None and work_dir is not None:
        return dict(beam.beam_map(beam_runner, hash_image, images, work_dir=work_dir))
    return dict(
        parallel.parallel_map(
            hash_image,
            images,
            label="comparing",
            unit="images",
            needs_tensorflow=True,
            preload=__name__,
        )
    )


def _hash_pixels_of(image: SourceImage, *, form: StoredForm) -> tuple[str, str]:
    import tensorflow as tf

    from pipeline import decoding

    to_store = reencoding.bytes_to_store(image.read(), form)
    pixels = decoding.decode(tf.constant(to_store)).numpy()
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels.data)
    return image.name, digest.hexdigest()
