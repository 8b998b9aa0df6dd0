"""A source string -> a list of images, each with a name, a label and a reader."""

import collections
import contextlib
import csv
import dataclasses
import functools
import os
import pathlib
import zipfile
from collections.abc import Callable

from pipeline import console, sample

SAMPLE_IMAGES_PER_CLASS = 60

# An archive above these is taken for a mistake or an attack.
_ZIP_MAX_FILES = 5_000_000
_ZIP_MAX_TOTAL_BYTES = 1 << 40
_ZIP_MAX_FILE_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class SourceImage:
    """One image before anybody has looked at it.

    name: relative path with "/" separators, unique in the source. It is the key of the
      image everywhere, so that no absolute path can change an order or a split.
    label: class name.
    read: returns the file's bytes; can be pickled.
    split: the source's own split, if it has one.
    group: the source's own group: what shares one stays in one split.
    """

    name: str
    label: str
    read: Callable[[], bytes]
    split: str | None = None
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """images: sorted by name. notes: what a person should know of the source."""

    images: list[SourceImage]
    notes: tuple[str, ...] = ()


def check_source(source: str) -> None:
    """Looks at what kind of source it is, and no further.

    Raises:
      ValueError: it is none.
    """
    if not (
        source == "sample"
        or source.partition(":")[0] in ("kaggle", "tfds", "csv")
        or os.path.isdir(source)
        or zipfile.is_zipfile(source)
    ):
        raise ValueError(
            "--source must be a folder that holds one folder a class, a .zip of one, "
            "csv:FILE, kaggle:OWNER/NAME, tfds:NAME or sample. Received: "
            f"--source={source}, which is "
            + ("another file." if os.path.exists(source) else "not there.")
        )


def list_images(source: str, *, seed: int, work_dir: pathlib.Path) -> Listing:
    """Lists the images of a source; reads none of those in a folder or an archive.

    Args:
      source: a folder that holds one folder a class, a .zip of one, "sample",
        "kaggle:OWNER/NAME", "tfds:NAME" or "csv:FILE".
      seed: what the sample is drawn from.
      work_dir: where a source that has no files of its own ("tfds:") puts them; must
        last as long as the images are read.

    Raises:
      ValueError: the source cannot be used; says what to do.
    """
    check_source(source)
    kind, _, rest = source.partition(":")
    if source == "sample":
        listing = _list_sample(seed)
    elif kind == "kaggle":
        listing = _list_kaggle(rest)
    elif kind == "tfds":
        listing = _list_tfds(rest, work_dir)
    elif kind == "csv":
        listing = _list_csv(pathlib.Path(rest))
    elif os.path.isdir(source):
        listing = _list_folder(pathlib.Path(source))
    else:
        listing = _list_zip(pathlib.Path(source))
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        found = f"one class, '{labels[0]}'" if labels else "no image"
        raise ValueError(
            "A classifier needs at least two classes: a folder that holds one folder a "
            f"class, with the images inside. Received: --source={source}, which holds "
            f"{found}."
        )
    return dataclasses.replace(
        listing, images=sorted(listing.images, key=lambda image: image.name)
    )


def _list_sample(seed: int) -> Listing:
    return Listing(
        [
            SourceImage(
                name=f"{label}/{index:03d}.jpg",
                label=label,
                read=functools.partial(_draw_once, label, index, seed=seed),
            )
            for label in sample.CLASSES
            for index in range(SAMPLE_IMAGES_PER_CLASS)
        ]
    )


# Looking at an image and writing it both read it; drawing takes 20 ms.
_draw_once = functools.cache(sample.draw_jpeg)


def _list_folder(folder: pathlib.Path) -> Listing:
    readers, empty, passed_over = {}, [], []
    # Links to directories are not followed below the class folders: no loop, no file
    # from elsewhere by surprise.
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            passed_over.append(entry.name)
            continue
        before = len(readers)
        for directory, subdirectories, names in os.walk(entry):
            below = pathlib.Path(directory).relative_to(folder).as_posix()
            passed_over += [
                f"{below}/{name}"
                for name in (*subdirectories, *names)
                if name.startswith(".")
                or (name in subdirectories and os.path.islink(f"{directory}/{name}"))
            ]
            subdirectories[:] = [d for d in subdirectories if not d.startswith(".")]
            for name in (n for n in names if not n.startswith(".")):
                read = functools.partial(_read_file, os.path.join(directory, name))
                readers[_text(f"{below}/{name}")] = read
        if len(readers) == before:
            empty.append(entry)
    if empty:
        raise ValueError(
            f"Every class folder needs images. Received: {empty[0]}, which holds no "
            "file; add images or remove the folder."
        )
    listing = _label_by_folder(readers)
    if not passed_over:
        return listing
    named = ", ".join(map(_text, sorted(passed_over)))
    note = f"passed over, hidden, linked or beside the class folders: {named}"
    return dataclasses.replace(listing, notes=(*listing.notes, note))


def _read_file(path: str) -> bytes:
    """With a path as text: it goes to and from another process at a third the cost."""
    with open(path, "rb") as file:
        return file.read()


def _text(name: str) -> str:
    """A name that is not UTF-8 on disk, as text that can be stored."""
    return os.fsencode(name).decode("utf-8", "replace")


def _list_zip(path: pathlib.Path) -> Listing:
    """Members are read in place, never extracted: no name can leave a directory."""
    members = [m for m in _open_zip(str(path)).infolist() if not m.is_dir()]
    total_bytes = sum(member.file_size for member in members)
    if len(members) > _ZIP_MAX_FILES or total_bytes > _ZIP_MAX_TOTAL_BYTES:
        raise ValueError(
            f"An archive may hold {_ZIP_MAX_FILES} files and {_ZIP_MAX_TOTAL_BYTES} "
            f"bytes. Received: --source={path} with {len(members)} files and "
            f"{total_bytes} bytes."
        )
    for member in members:
        parts = pathlib.PurePosixPath(member.filename).parts
        if ".." in parts or parts[0] == "/" or member.flag_bits & 1:
            raise ValueError(
                "An archive holds relative names and no password. Received: "
                f"--source={path} with the member {member.filename!r}."
            )
    return _label_by_folder(
        {
            member.filename: functools.partial(_read_member, str(path), member.filename)
            for member in members
        }
    )


# Opening reads the whole directory of an archive, so it is done once a process.
_open_zip = functools.cache(zipfile.ZipFile)


def _read_member(path: str, name: str) -> bytes:
    archive = _open_zip(path)
    if archive.getinfo(name).file_size > _ZIP_MAX_FILE_BYTES:
        raise ValueError(f"more than {_ZIP_MAX_FILE_BYTES} bytes")
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged in the archive: {error}") from error


def _label_by_folder(readers: dict[str, Callable[[], bytes]]) -> Listing:
    """Takes relative name -> reader; the label is the first folder of the name.

    Folders that hold everything are passed over. A folder that only repeats the class
    folders, as in Kaggle's flowers archive, is a second copy: of its files those that
    differ from the first copy count.
    """
    readers = {
        name: read
        for name, read in readers.items()
        if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))
    }
    while len({name.split("/")[0] for name in readers}) == 1 and all(
        name.count("/") > 1 for name in readers
    ):
        readers = {name.partition("/")[2]: read for name, read in readers.items()}
    readers = {name: read for name, read in readers.items() if "/" in name}
    below = collections.defaultdict(set)
    for name in readers:
        first, _, rest = name.partition("/")
        below[first].add(rest.partition("/")[0] if "/" in rest else "")
    repeats = {
        first
        for first, inner in below.items()
        if inner and inner <= set(below) - {first}
    }
    images, repeated = [], collections.Counter()
    for name, read in readers.items():
        first, _, rest = name.partition("/")
        if first not in repeats:
            images.append(SourceImage(name, first, read))
        elif rest in readers and _same_bytes(read, readers[rest]):
            repeated[first] += 1
        else:
            images.append(SourceImage(name, rest.partition("/")[0], read))
    return Listing(
        images,
        tuple(
            f"{first}/ repeats the class folders: {count} files are there already"
            for first, count in sorted(repeated.items())
        ),
    )


def _same_bytes(left: Callable[[], bytes], right: Callable[[], bytes]) -> bool:
    try:
        return left() == right()
    except (OSError, ValueError):
        return False


def _list_csv(path: pathlib.Path) -> Listing:
    """Columns path and label, and optionally split and group; paths from the file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The list of images cannot be read: {error}. Received: --source=csv:{path}"
        ) from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        columns = ",".join(rows[0]) if rows else "nothing"
        raise ValueError(
            "A list of images starts with the columns path,label (and optionally split "
            f"and group). Received: --source=csv:{path} with {columns}"
        )
    images, seen = [], {}
    for line, row in enumerate(rows, start=2):
        name, label = row["path"] or "", row["label"] or ""
        split = row.get("split") or None
        if not name or not label or split not in (None, "train", "validation", "test"):
            raise ValueError(
                "Each line needs a path, a label and, if it names a split, train, "
                f"validation or test. Received: line {line} of {path}: "
                f"path={name!r}, label={label!r}, split={split!r}"
            )
        if name in seen:
            raise ValueError(
                f"Each path may stand once. Received: {name!r} in lines {seen[name]} "
                f"and {line} of {path}"
            )
        seen[name] = line
        read = functools.partial(_read_file, str(path.parent / name))
        images.append(SourceImage(name, label, read, split, row.get("group") or None))
    return Listing(images)


def _list_kaggle(handle: str) -> Listing:
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
    return _list_folder(pathlib.Path(folder))


def _list_tfds(name: str, work_dir: pathlib.Path) -> Listing:
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
                    functools.partial(_read_file, str(path)),
                    own_splits.get(split) if respected else None,
                )
            )
    return Listing(images)
