"""A source string -> a list of images, each with a name, a label and a reader."""

import contextlib
import functools
import pathlib

from pipeline.sources.folders import (
    list_folder,
)
from pipeline.sources.images import Listing, SourceImage, read_file
from pipeline.system import console


def list_kaggle(handle: str) -> Listing:
    import kagglehub
    from kagglehub import config

    try:
        folder = kagglehub.dataset_download(handle)
    except Exception as error:  # kagglehub raises many kinds, requests' among them
        # Without a version in the handle it asks the network for the newest one.
        cache = pathlib.Path(config.get_cache_folder(), "datasets", handle)
        complete = [
            int(marker.stem)
            for marker in cache.glob("*.complete")
            if marker.stem.isdecimal()
        ]
        if not complete:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"Kaggle could not be reached, or it refused ({reason}). Received: "
                f"--source=kaggle:{handle}. Download the data set's .zip with a "
                "browser and give --source=FILE.zip, or try --source=sample."
            ) from error
        folder = kagglehub.dataset_download(f"{handle}/versions/{max(complete)}")
    return list_folder(pathlib.Path(folder))


def list_tfds(name: str, work_dir: pathlib.Path) -> Listing:
    """Any TFDS image classification set; its images become files for a while."""
    import requests

    with console.quiet_tensorflow_import():
        import tensorflow_datasets as tfds
    try:
        builder = tfds.builder(name)
        if not builder.data_path.exists():
            # TFDS itself tries ten times, for minutes. Where only its own host is
            # slow or refuses, it may go on trying.
            with contextlib.suppress(requests.Timeout, requests.exceptions.ProxyError):
                requests.head("https://storage.googleapis.com", timeout=10)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises many kinds, its downloader's among them
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"The data set could not be had from tensorflow-datasets ({reason}). "
            f"Received: --source=tfds:{name}. Prepare it where there is a network and "
            "copy its directory below ~/tensorflow_datasets, or try --source=sample."
        ) from error
    features = dict(builder.info.features)
    image_key, label_key = builder.info.supervised_keys or ("image", "label")
    if not isinstance(features.get(label_key), tfds.features.ClassLabel) or not (
        isinstance(features.get(image_key), tfds.features.Image)
    ):
        raise ValueError(
            "Only image classification sets can be used. Received: "
            f"--source=tfds:{name}, whose features are {', '.join(features)}."
        )
    own_splits = {"train": "train", "validation": "validation", "test": "test"}
    respected = set(own_splits) <= set(builder.info.splits)
    images = []
    for split in builder.info.splits:
        examples = builder.as_dataset(
            split=split, decoders={image_key: tfds.decode.SkipDecoding()}
        )
        for number, example in enumerate(examples.as_numpy_iterator()):
            label = features[label_key].int2str(int(example[label_key]))
            path = work_dir / "source" / f"{split}-{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(example[image_key])
            images.append(
                SourceImage(
                    f"{label}/{split}-{number}",
                    label,
                    functools.partial(read_file, str(path)),
                    own_splits.get(split) if respected else None,
                )
            )
    return Listing(images)
