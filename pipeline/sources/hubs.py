"""Lists the images of data sets on Kaggle and in tensorflow-datasets."""

import contextlib
import functools
import pathlib

from pipeline.sources.folders import list_folder
from pipeline.sources.images import SPLITS, Listing, SourceImage, read_file
from pipeline.system import console


def list_kaggle(handle: str, *, class_level: int | None = None) -> Listing:
    """Downloads a Kaggle data set and lists it as a folder.

    Without a network, the newest version in the local cache of kagglehub is used.

    class_level: see folders.label_by_folder.

    Raises:
      ValueError: the data set can neither be downloaded nor found in the cache.
    """
    import kagglehub
    from kagglehub import config

    try:
        folder = kagglehub.dataset_download(handle)
    except Exception as error:  # kagglehub raises exceptions of many types.
        # For a handle without a version, kagglehub needs the network.
        cache = pathlib.Path(config.get_cache_folder(), "datasets", handle)
        cached_versions = [
            int(marker.stem)
            for marker in cache.glob("*.complete")
            if marker.stem.isdecimal()
        ]
        if not cached_versions:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"The data set could not be downloaded from Kaggle ({reason}). "
                f"Received: --source=kaggle:{handle}. Download its .zip with a browser "
                "and use --source=FILE.zip, or try --source=sample."
            ) from error
        newest = max(cached_versions)
        folder = kagglehub.dataset_download(f"{handle}/versions/{newest}")
    return list_folder(pathlib.Path(folder), class_level=class_level)


def list_tfds(name: str, work_dir: pathlib.Path) -> Listing:
    """Lists an image classification set of TFDS; writes its images below work_dir.

    Raises:
      ValueError: the data set cannot be downloaded, or is of another kind.
    """
    import requests

    with console.quiet_tensorflow_import():
        import tensorflow_datasets as tfds
    try:
        builder = tfds.builder(name)
        if not builder.data_path.exists():
            # TFDS tries ten times, for minutes. This request fails at once if there is
            # no network. It may also fail by a slow host or a proxy that refuses this
            # address; then TFDS may still be able to download.
            with contextlib.suppress(requests.Timeout, requests.exceptions.ProxyError):
                requests.head("https://storage.googleapis.com", timeout=10)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises exceptions of many types.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            "The data set could not be downloaded by tensorflow-datasets "
            f"({reason}). Received: --source=tfds:{name}. Prepare it on a machine with "
            "a network and copy its directory to ~/tensorflow_datasets, or try "
            "--source=sample."
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
    has_all_splits = set(SPLITS) <= set(builder.info.splits)
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
                    name=f"{label}/{split}-{number}",
                    label=label,
                    read=functools.partial(read_file, str(path)),
                    split=split if has_all_splits and split in SPLITS else None,
                )
            )
    return Listing(images)
