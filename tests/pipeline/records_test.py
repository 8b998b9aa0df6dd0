"""Tests that the shards are those that tensorflow-datasets itself would write."""

import json
import pathlib

import fakes
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline import records
from pipeline.sources.images import SourceImage


def _images(folder, count, *, first=0):
    """Writes images of three classes and returns them."""
    images = []
    for index in range(first, first + count):
        label = fakes.CLASSES[index % 3]
        path = folder / label / f"ünïcode {index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        fakes.draw(label, index).save(path)
        images.append(SourceImage(f"{label}/{path.name}", label, path.read_bytes))
    return images


class _Plain(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name = records.DATASET_NAME
    VERSION = records.Photographs.VERSION
    pkg_dir_path = pathlib.Path(__file__).parent

    def __init__(self, *, data_dir, images_by_split):
        self._images_by_split = images_by_split
        super().__init__(data_dir=data_dir)

    def _info(self):
        return records._describe(self, sorted(fakes.CLASSES))

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(images)
            for split, images in self._images_by_split.items()
        }

    def _generate_examples(self, images):
        for image in images:
            yield (
                image.name,
                {"image": image.read(), "label": image.label, "name": image.name},
            )


@pytest.mark.parametrize("num_shards", [None, 3])
def test_the_files_are_those_of_a_plain_builder(tmp_path, num_shards):
    images_by_split = {
        "train": _images(tmp_path / "photos", 20),
        "test": _images(tmp_path / "photos", 4, first=20),
    }
    written = records.write_records(
        tmp_path / "ours",
        classes=sorted(fakes.CLASSES),
        images_by_split=images_by_split,
        bytes_by_split={
            split: sum(len(image.read()) for image in images)
            for split, images in images_by_split.items()
        },
        num_shards=num_shards,
        beam_runner=None,
    )
    builder = _Plain(data_dir=str(tmp_path / "plain"), images_by_split=images_by_split)
    config = tfds.download.DownloadConfig(num_shards=num_shards)
    builder.download_and_prepare(download_config=config)
    plain = pathlib.Path(builder.data_dir)
    names = sorted(path.name for path in plain.iterdir())
    assert sorted(path.name for path in written.iterdir()) == names
    assert len([name for name in names if "tfrecord" in name]) == 2 * (num_shards or 1)
    infos = [
        json.loads((folder / "dataset_info.json").read_text())
        for folder in (written, plain)
    ]
    for info in infos:
        del info["moduleName"]
    assert infos[0] == infos[1]
    for name in names:
        if "tfrecord" in name:
            found, expected = (
                [
                    tf.train.Example.FromString(serialized)
                    for serialized in tf.data.TFRecordDataset(
                        str(folder / name)
                    ).as_numpy_iterator()
                ]
                for folder in (written, plain)
            )
            assert found == expected
        elif name != "dataset_info.json":
            assert (written / name).read_bytes() == (plain / name).read_bytes()
