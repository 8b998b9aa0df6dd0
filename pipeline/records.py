"""The tensorflow-datasets builder that writes the TFRecord shards."""

import contextlib
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline import console
from pipeline.engine import Engine
from pipeline.sources import SourceImage

DATASET_NAME = "photographs"


class Photographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes original image bytes, label and relative name; nothing is re-encoded."""

    name = DATASET_NAME
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(
        self,
        *,
        data_dir: str,
        classes: Sequence[str],
        images_by_split: Mapping[str, Sequence[SourceImage]],
        on_beam: bool,
    ):
        self._classes = list(classes)
        self._images_by_split = images_by_split
        self._on_beam = on_beam
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=self._classes),
                "name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Labelled images, split without duplicates across splits.",
            features=features,
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            split: self._generate_examples(split, images)
            for split, images in self._images_by_split.items()
        }

    def _generate_examples(self, split: str, images: Sequence[SourceImage]):
        if self._on_beam:
            import apache_beam as beam

            return beam.Create(list(images)) | beam.Reshuffle() | beam.Map(_to_example)
        progress = console.track(
            images, total=len(images), label=f"writing {split}", unit="images"
        )
        return map(_to_example, progress)


def _to_example(image: SourceImage) -> tuple[str, dict]:
    """One record and the key that decides its place."""
    record = {
        "image": io.BytesIO(image.read()),
        "label": image.label,
        "name": image.name,
    }
    return image.name, record


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Hides TFDS's own progress, which speaks of downloads and temporary paths."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def write_records(
    work_dir: pathlib.Path,
    *,
    classes: Sequence[str],
    images_by_split: Mapping[str, Sequence[SourceImage]],
    num_shards: int | None,
    engine: Engine | None,
) -> pathlib.Path:
    """Writes the shards below work_dir.

    num_shards: of each split, at most one an image; None chooses by size.
    engine: writes on its workers; None in this process. The examples and their order
    are the same.

    Returns:
      The finished dataset directory, which can be moved anywhere and opened with
      `tfds.builder_from_directory`.

    Raises:
      ValueError: more shards than the smallest split has images.
      OSError: the disk is full, or cannot be written.
    """
    smallest = min(len(images) for images in images_by_split.values())
    if num_shards is not None and not 1 <= num_shards <= smallest:
        raise ValueError(
            f"--shards must lie between 1 and {smallest}, the images of the smallest "
            f"split. Received: --shards={num_shards}"
        )
    builder = Photographs(
        data_dir=str(work_dir),
        classes=classes,
        images_by_split=images_by_split,
        on_beam=engine is not None,
    )
    config = tfds.download.DownloadConfig(
        num_shards=num_shards,
        beam_options=engine.pipeline_options() if engine is not None else None,
    )
    try:
        with _quiet_tfds():
            builder.download_and_prepare(download_config=config)
    except (RuntimeError, tf.errors.OpError) as error:  # how a full disk arrives
        raise OSError(f"The shards could not be written: {error}") from error
    return pathlib.Path(builder.data_dir)
