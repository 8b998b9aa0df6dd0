"""Judges what was found: what cannot be used, what is there twice or misfiled."""

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
    """What the look at all images found, and what is done about it.

    readable: the findings of all images without a problem.
    usable: those of the images to write, in the order of the source.
    group_of: name -> group key for each of them; near duplicates share a key.
    rejected: the findings that have a problem.
    copies: [kept, dropped, ...]: names of images of one class with equal pixels.
    near_duplicates: names of each group of different images of one picture.
    conflicts: names of each group of one picture filed under several classes.
    """

    readable: list[ImageReport]
    usable: list[ImageReport]
    group_of: dict[str, str]
    rejected: list[ImageReport]
    copies: list[list[str]]
    near_duplicates: list[list[str]]
    conflicts: list[list[str]]


def decide(
    findings: Sequence[ImageReport],
    *,
    hash_pixels: Callable[[Sequence[SourceImage]], Mapping[str, str]],
    keep_conflicts: bool = False,
) -> Audit:
    """Decides what to use, and which images belong together.

    Args:
      findings: of one source, each image once.
      hash_pixels: images -> name -> a string, equal for equal pixels; asked once, for
        the images that look like another one.
      keep_conflicts: use the copies of a picture filed under several classes all the
        same, each with its class.
    """
    fine = [finding for finding in findings if finding.problem is None]
    left, right, bits = _find_pairs(fine)
    same = bits <= duplicates.SAME_PICTURE_BITS
    pictures = _members(fine, left[same], right[same])
    conflicts = [_names(group) for group in pictures if len(_labels(group)) > 1]
    dropped = set() if keep_conflicts else {n for names in conflicts for n in names}
    copies = _find_copies(pictures, dropped, hash_pixels)
    candidate = np.array([finding.image.name not in dropped for finding in fine], bool)
    near = candidate[left] & candidate[right]
    source_left, source_right = _pairs_of_the_source(fine, candidate)
    groups = _members(
        fine,
        np.concatenate([left[near], source_left]),
        np.concatenate([right[near], source_right]),
    )
    dropped |= {name for names in copies for name in names[1:]}
    # Copies count for the key of their group: which of them is used follows from their
    # names, and no renaming may move a group.
    group_of = {
        finding.image.name: min(member.file_hash for member in group)
        for group in groups
        for finding in group
        if finding.image.name not in dropped
    }
    named = [[n for n in _names(group) if n in group_of] for group in groups]
    return Audit(
        readable=fine,
        usable=[finding for finding in fine if finding.image.name in group_of],
        group_of=group_of,
        rejected=[finding for finding in findings if finding.problem is not None],
        copies=copies,
        near_duplicates=[names for names in named if len(names) > 1],
        conflicts=conflicts,
    )


def _names(findings: Iterable[ImageReport]) -> list[str]:
    return [finding.image.name for finding in findings]


def _labels(findings: Iterable[ImageReport]) -> set[str]:
    return {finding.image.label for finding in findings}


def _find_pairs(
    findings: Sequence[ImageReport],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    packed = np.frombuffer(b"".join(f.perceptual_hash for f in findings), np.uint8)
    packed = packed.reshape(len(findings), perceptual_hash.HASH_BITS // 8)
    hashes = np.unpackbits(packed, axis=1).astype(bool)
    return duplicates.find_pairs(hashes, max_bits=duplicates.NEAR_DUPLICATE_BITS)


def _members(
    findings: Sequence[ImageReport], left: np.ndarray, right: np.ndarray
) -> list[list[ImageReport]]:
    """The findings by group, groups in the order of their first member."""
    groups = collections.defaultdict(list)
    numbers = duplicates.group_pairs(left, right, count=len(findings))
    for number, finding in zip(numbers.tolist(), findings, strict=True):
        groups[number].append(finding)
    return list(groups.values())


def _find_copies(
    pictures: Sequence[Sequence[ImageReport]],
    dropped: set[str],
    hash_pixels: Callable[[Sequence[SourceImage]], Mapping[str, str]],
) -> list[list[str]]:
    """Names of images of one class with equal pixels; equal pixels look the same."""
    alike = [
        finding.image
        for group in pictures
        for finding in group
        if len(group) > 1 and finding.image.name not in dropped
    ]
    pixels_of = hash_pixels(alike) if alike else {}
    by_pixels = collections.defaultdict(list)
    for image in alike:
        by_pixels[image.label, pixels_of[image.name]].append(image.name)
    return [names for names in by_pixels.values() if len(names) > 1]


def _pairs_of_the_source(
    findings: Sequence[ImageReport], candidate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that chain the candidates of each of the source's own groups."""
    last_of, pairs = {}, []
    for index, finding in enumerate(findings):
        source_group = finding.image.group
        if source_group is not None and candidate[index]:
            pairs.append((last_of.get(source_group, index), index))
            last_of[source_group] = index
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    return left, right
