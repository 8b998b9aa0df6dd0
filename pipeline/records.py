"""Writes the TFRecord shards of a data set with tensorflow-datasets."""

import contextlib
import functools
import io
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder, hashing
from tensorflow_datasets.core.utils import shard_utils

from pipeline.sources.images import SourceImage
from pipeline.system import console, parallel
from pipeline.system.beam import BeamRunner

DATASET_NAME = "photographs"


class _SortedFieldsWriter(tfds.core.ExampleWriter):
    """Writes the fields of every example in the order of their names.

    The same photographs give the same bytes in every process: Protobuf itself stores
    the fields in an order that depends on the addresses of the process's memory.
    """

    def write(self, path, examples):
        ordered = (
            (key, _serialize(tf.train.Example.FromString(serialized)))
            for key, serialized in examples
        )
        return super().write(path, ordered)


def _serialize(example: tf.train.Example) -> bytes:
    return example.SerializeToString(deterministic=True)


# TFDS has no type information.
class Photographs(dataset_builder.FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Writes original image bytes, label and relative name; nothing is re-encoded.

    The shards are equal to those that TFDS's own shuffle would write. The shard and
    place of an image depend only on its name and size, which are known, so that no
    image is collected and sorted in memory. TFDS's own serialisation would take most of
    the time of the writing.
    """

    name = DATASET_NAME
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(
        self,
        *,
        data_dir: str,
        classes: Sequence[str],
        shards_by_split: Mapping[str, Sequence[Sequence[SourceImage]]],
    ):
        self._classes = list(classes)
        self._shards_by_split = shards_by_split
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return _describe(self, self._classes)

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        del dl_manager, download_config
        split_infos = [
            self._write_split(split, shards)
            for split, shards in self._shards_by_split.items()
        ]
        self.info.set_splits(tfds.core.SplitDict(split_infos))

    def _write_split(
        self, split: str, shards: Sequence[Sequence[SourceImage]]
    ) -> tfds.core.SplitInfo:
        """Writes the shards of a split in their order, and reads ahead in threads."""
        template = self._get_filename_template(split)
        threads = parallel.count_cores()
        images = itertools.chain.from_iterable(shards)
        with futures.ThreadPoolExecutor(threads) as pool:
            examples = parallel.map_bounded(
                pool,
                functools.partial(_make_example, self._classes),
                images,
                ahead=2 * threads,
            )
            # One bar for all shards of a split.
            serialized = console.track(
                map(_serialize, examples),
                total=sum(len(shard) for shard in shards),
                label=f"writing {split}",
                unit="images",
            )
            num_bytes = 0
            for index, shard in enumerate(shards):
                path = template.sharded_filepath(
                    shard_index=index, num_shards=len(shards)
                )
                with tf.io.TFRecordWriter(str(path)) as writer:
                    for example in itertools.islice(serialized, len(shard)):
                        writer.write(example)
                        num_bytes += len(example)
            for _ in serialized:  # It ends, and so completes the bar.
                pass
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(shard) for shard in shards],
            num_bytes=num_bytes,
            filename_template=template,
        )


# TFDS has no type information.
class PhotographsOnBeam(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """The same data set, written by the workers of a Beam runner."""

    name = DATASET_NAME
    VERSION = Photographs.VERSION
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(
        self,
        *,
        data_dir: str,
        classes: Sequence[str],
        images_by_split: Mapping[str, Sequence[SourceImage]],
    ):
        self._classes = list(classes)
        self._images_by_split = images_by_split
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return _describe(self, self._classes)

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _SortedFieldsWriter(file_format=self.info.file_format)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            split: self._generate_examples(images)
            for split, images in self._images_by_split.items()
        }

    def _generate_examples(self, images: Sequence[SourceImage]):
        import apache_beam as beam

        return beam.Create(list(images)) | beam.Reshuffle() | beam.Map(_to_example)


def _describe(
    builder: tfds.core.DatasetBuilder, classes: Sequence[str]
) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=list(classes)),
            "name": tfds.features.Text(),
        }
    )
    return tfds.core.DatasetInfo(
        builder=builder,
        description="Labelled images, split without duplicates across splits.",
        features=features,
        supervised_keys=("image", "label"),
    )


def _to_example(image: SourceImage) -> tuple[str, dict]:
    """Returns the key that decides the place of an image, and its record."""
    record = {"image": image.read(), "label": image.label, "name": image.name}
    return image.name, record


def _make_example(classes: Sequence[str], image: SourceImage) -> tf.train.Example:
    """Returns the example that TFDS makes of the same record.

    classes: in alphabetical order; a label is the index of its class.
    """
    features = {
        "image": tf.train.Feature(bytes_list=_bytes_list(image.read())),
        "label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[classes.index(image.label)])
        ),
        "name": tf.train.Feature(bytes_list=_bytes_list(image.name.encode())),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def _bytes_list(value: bytes) -> tf.train.BytesList:
    return tf.train.BytesList(value=[value])


def _cut_into_shards(
    split: str,
    images: Sequence[SourceImage],
    *,
    total_bytes: int,
    num_shards: int | None,
) -> list[list[SourceImage]]:
    """Returns the images of each shard, in the order of TFDS's own shuffle."""
    order = hashing.Hasher(split)
    ordered = sorted(images, key=lambda image: order.hash_key(image.name))
    config = shard_utils.ShardConfig(num_shards=num_shards)
    num_shards = config.get_number_shards(total_bytes, len(images))
    ends = shard_utils.get_shard_boundaries(len(images), num_shards)
    return [ordered[a:b] for a, b in itertools.pairwise([0, *ends])]


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Hides TFDS's own progress, which mentions downloads and temporary paths."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def write_records(
    work_dir: pathlib.Path,
    *,
    classes: Sequence[str],
    images_by_split: Mapping[str, Sequence[SourceImage]],
    bytes_by_split: Mapping[str, int],
    num_shards: int | None,
    beam_runner: BeamRunner | None,
) -> pathlib.Path:
    """Writes the shards below work_dir.

    bytes_by_split: total size of the images of each split.
    num_shards: number of shards of each split; None chooses it by size.
    beam_runner: its workers write the shards; None writes them in this process. The
      examples and their order are the same.

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
            f"--shards must lie between 1 and {smallest}, the number of images of the "
            f"smallest split. Received: --shards={num_shards}"
        )
    if beam_runner is not None:
        builder = PhotographsOnBeam(
            data_dir=str(work_dir), classes=classes, images_by_split=images_by_split
        )
        config = tfds.download.DownloadConfig(
            num_shards=num_shards, beam_options=beam_runner.pipeline_options()
        )
    else:
        shards_by_split = {
            split: _cut_into_shards(
                split,
                images,
                total_bytes=bytes_by_split[split],
                num_shards=num_shards,
            )
            for split, images in images_by_split.items()
        }
        builder = Photographs(
            data_dir=str(work_dir), classes=classes, shards_by_split=shards_by_split
        )
        config = tfds.download.DownloadConfig()
    try:
        with _quiet_tfds():
            builder.download_and_prepare(download_config=config)
    except (RuntimeError, tf.errors.OpError) as error:  # For example a full disk.
        raise OSError(
            f"The shards could not be written: {error}. If the disk is full, make room "
            "and repeat the command."
        ) from error
    return pathlib.Path(builder.data_dir)
