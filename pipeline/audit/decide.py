"""Decides which images are used, and which belong together in one split."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pipeline.audit import duplicates
from pipeline.inspection import perceptual_hash
from pipeline.inspection.image_report import ImageReport
from pipeline.sources.images import SourceImage


@dataclasses.dataclass(frozen=True)
class Audit:
    """The decisions about all images of a source.

    readable: the reports of all images without a problem.
    usable: the reports of the images to write, in the order of the source.
    group_of: name -> group key of each usable image; near duplicates share a key.
    rejected: the reports that have a problem.
    copies: the names of each group of images of one class with equal pixels; the first
      image is used, the others are left out.
    near_duplicates: the names of each group of two or more usable images: near
      duplicates, or images that share a group of the source.
    conflicts: the names of the images of each picture that has several classes.
    """

    readable: list[ImageReport]
    usable: list[ImageReport]
    group_of: dict[str, str]
    rejected: list[ImageReport]
    copies: list[list[str]]
    near_duplicates: list[list[str]]
    conflicts: list[list[str]]


def decide(
    reports: Sequence[ImageReport],
    *,
    hash_pixels: Callable[[Sequence[SourceImage]], Mapping[str, str]],
    keep_conflicts: bool = False,
) -> Audit:
    """Decides which images are used, and which images belong together.

    Args:
      reports: one report per image of the source.
      hash_pixels: maps images to name -> a string that is equal for equal pixels. It is
        called once, for the images that look like another image.
      keep_conflicts: also use the images of a picture that is filed under several
        classes, each with its own class.
    """
    readable = [report for report in reports if report.problem is None]
    left, right, bits = _find_pairs(readable)
    same = bits <= duplicates.SAME_PICTURE_BITS
    pictures = _members(readable, left[same], right[same])
    conflicts = [_names(group) for group in pictures if len(_labels(group)) > 1]
    dropped = set() if keep_conflicts else {n for names in conflicts for n in names}
    copies = _find_copies(pictures, dropped, hash_pixels)
    candidate = np.array(
        [report.image.name not in dropped for report in readable], bool
    )
    near = candidate[left] & candidate[right]
    source_left, source_right = _pairs_of_the_source(readable, candidate)
    groups = _members(
        readable,
        np.concatenate([left[near], source_left]),
        np.concatenate([right[near], source_right]),
    )
    dropped |= {name for names in copies for name in names[1:]}
    # The group key includes dropped copies: which copy is dropped depends on the file
    # names, and renaming a file must not change the split of its group.
    group_of = {
        report.image.name: min(member.file_hash for member in group)
        for group in groups
        for report in group
        if report.image.name not in dropped
    }
    usable_names = [[n for n in _names(group) if n in group_of] for group in groups]
    return Audit(
        readable=readable,
        usable=[report for report in readable if report.image.name in group_of],
        group_of=group_of,
        rejected=[report for report in reports if report.problem is not None],
        copies=copies,
        near_duplicates=[names for names in usable_names if len(names) > 1],
        conflicts=conflicts,
    )


def _names(reports: Iterable[ImageReport]) -> list[str]:
    return [report.image.name for report in reports]


def _labels(reports: Iterable[ImageReport]) -> set[str]:
    return {report.image.label for report in reports}


def _find_pairs(
    reports: Sequence[ImageReport],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    packed = np.frombuffer(b"".join(r.perceptual_hash for r in reports), np.uint8)
    packed = packed.reshape(len(reports), perceptual_hash.HASH_BITS // 8)
    hashes = np.unpackbits(packed, axis=1).astype(bool)
    return duplicates.find_pairs(hashes, max_bits=duplicates.NEAR_DUPLICATE_BITS)


def _members(
    reports: Sequence[ImageReport], left: np.ndarray, right: np.ndarray
) -> list[list[ImageReport]]:
    """Returns the reports of each group; groups in the order of their first member."""
    groups: dict[int, list[ImageReport]] = collections.defaultdict(list)
    numbers = duplicates.group_pairs(left, right, count=len(reports))
    for number, report in zip(numbers.tolist(), reports, strict=True):
        groups[number].append(report)
    return list(groups.values())


def _find_copies(
    pictures: Sequence[Sequence[ImageReport]],
    dropped: set[str],
    hash_pixels: Callable[[Sequence[SourceImage]], Mapping[str, str]],
) -> list[list[str]]:
    """Returns the names of each group of images of one class with equal pixels.

    Equal pixels have equal perceptual hashes, so only images of one picture are hashed.
    """
    alike = [
        report.image
        for group in pictures
        for report in group
        if len(group) > 1 and report.image.name not in dropped
    ]
    pixels_of = hash_pixels(alike) if alike else {}
    by_pixels = collections.defaultdict(list)
    for image in alike:
        by_pixels[image.label, pixels_of[image.name]].append(image.name)
    return [names for names in by_pixels.values() if len(names) > 1]


def _pairs_of_the_source(
    reports: Sequence[ImageReport], candidate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of positions that connect the candidates of each source group."""
    last_of: dict[str, int] = {}
    pairs = []
    for index, report in enumerate(reports):
        source_group = report.image.group
        if source_group is not None and candidate[index]:
            pairs.append((last_of.get(source_group, index), index))
            last_of[source_group] = index
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return left, right
