"""prepare(): from a source to the prepared-data directory."""

import collections
import csv
import os
import pathlib
from collections.abc import Mapping, Sequence

from pipeline import audit, files, records, sources, splits
from pipeline.sources import SourceImage

_MOST_NAMES_ON_SCREEN = 10


def prepare(
    source: str,
    out_dir: str,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    num_shards: int | None = None,
    seed: int = 1,
    overwrite: bool = False,
) -> None:
    """Looks at a source's images, splits them and writes them as a TFDS dataset.

    The directory appears whole or not at all. It holds what
    `tfds.builder_from_directory` opens, `audit.json` (everything that was found and
    what was done about it) and `splits.csv` (name, label, group, split).

    Args:
      source: see sources.list_images.
      out_dir: the directory to write.
      fractions: shares of train, validation and test.
      num_shards: of each split; None chooses by size.
      seed: decides the split of every group, and what the sample is drawn from.
      overwrite: replace an existing out_dir.

    Raises:
      ValueError: the source or an argument cannot be used; says what to do.
    """
    fractions = splits.parse_fractions(fractions)
    target = pathlib.Path(out_dir)
    if os.path.lexists(target) and not overwrite:
        raise ValueError(
            f"The output exists already. Received: --out={out_dir}; name another "
            "directory or add --overwrite."
        )
    images = sources.list_images(source, seed=seed)
    found = audit.audit_images(images)
    _print_findings(found)
    _check_every_class_is_left(images, found)
    split_of = {
        name: splits.split_of(group, fractions=fractions, seed=seed)
        for name, group in found.group_of.items()
    }
    label_of = {image.name: image.label for image in found.usable}
    splits.check_every_class_in_every_split(label_of, split_of)
    images_by_split = {
        split: [image for image in found.usable if split_of[image.name] == split]
        for split in splits.SPLITS
    }
    counts = _count_by_class(images_by_split)
    with files.temporary_sibling(target) as work_dir:
        dataset_dir = records.write_records(
            work_dir,
            classes=sorted(counts),
            images_by_split=images_by_split,
            num_shards=num_shards,
        )
        settings = {"source": source, "splits": fractions, "seed": seed}
        files.write_json(
            dataset_dir / "audit.json", {**settings, **_describe(found, counts)}
        )
        _write_splits(dataset_dir / "splits.csv", found, split_of)
        files.publish_directory(dataset_dir, target)
    _print_counts(target, counts)


def _count_by_class(
    images_by_split: Mapping[str, Sequence[SourceImage]],
) -> dict[str, dict[str, int]]:
    """Class -> split -> number of images."""
    counts = collections.defaultdict(lambda: dict.fromkeys(splits.SPLITS, 0))
    for split, images in images_by_split.items():
        for image in images:
            counts[image.label][split] += 1
    return dict(counts)


def _check_every_class_is_left(
    images: Sequence[SourceImage], found: audit.Audit
) -> None:
    left = {image.label for image in found.usable}
    for label in sorted({image.label for image in images} - left):
        reasons = "; ".join(
            f"{image.name}: "
            + found.rejected.get(image.name, "the same picture is in another class")
            for image in images
            if image.label == label
        )
        raise ValueError(
            f"Class '{label}' has no image that can be used. Received: {reasons[:300]}."
            " Add images or remove the folder."
        )


def _describe(found: audit.Audit, counts: Mapping[str, Mapping[str, int]]) -> dict:
    """The content of audit.json."""
    return {
        "classes": counts,
        "rejected": [
            {"name": name, "reason": reason, "action": "left out"}
            for name, reason in found.rejected.items()
        ],
        "label_conflicts": [
            {"names": names, "action": "all copies left out"}
            for names in found.conflicts
        ],
        "duplicate_groups": [
            {"names": names, "action": "kept in one split"}
            for names in found.duplicates
        ],
    }


def _write_splits(
    path: pathlib.Path, found: audit.Audit, split_of: Mapping[str, str]
) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label", "group", "split"])
        for image in found.usable:
            group, split = found.group_of[image.name], split_of[image.name]
            writer.writerow([image.name, image.label, group, split])


def _print_findings(found: audit.Audit) -> None:
    lines = [f"left out {name}: {why}" for name, why in found.rejected.items()]
    for names in found.conflicts:
        lines.append(f"left out {', '.join(names)}: the same picture in two classes")
    for names in found.duplicates:
        lines.append(f"kept in one split {', '.join(names)}: the same picture")
    for line in lines[:_MOST_NAMES_ON_SCREEN]:
        print(line)
    if len(lines) > _MOST_NAMES_ON_SCREEN:
        print(f"... {len(lines) - _MOST_NAMES_ON_SCREEN} more, all in audit.json")


def _print_counts(
    target: pathlib.Path, counts: Mapping[str, Mapping[str, int]]
) -> None:
    width = max(len("class"), *(len(label) for label in counts))
    print(f"{'class':<{width}}" + "".join(f"{split:>12}" for split in splits.SPLITS))
    for label, by_split in sorted(counts.items()):
        print(f"{label:<{width}}" + "".join(f"{n:>12}" for n in by_split.values()))
    print(f"prepared data: {target}")
