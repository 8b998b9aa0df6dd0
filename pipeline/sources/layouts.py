"""Finds out which folder in a relative name is the class, and which is the split."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Set

from pipeline.sources.images import find_split
from pipeline.system import texts

# What may stand around the name of a split, in lower case: train_images, val2017.
_AROUND_SPLIT = re.compile(
    r"^(images?|imgs?|photos?|data|set)[-_ ]"
    r"|[-_ ]?(images?|imgs?|photos?|pictures|data|dataset|set|files|(19|20)\d\d)$"
)
# Folders of data sets for detection and segmentation, in lower case.
_PARTS = {
    *("images", "image", "imgs", "img", "jpegimages", "labels", "label", "masks"),
    *("mask", "annotations", "annotation", "segmentation", "segmentationclass"),
    *("imagesets", "groundtruth", "ground_truth", "gt", "bbox", "bboxes"),
}
# What phones, cameras and programs that import photographs call folders, in lower case:
# 2019, 2019-05, 20190501, 202005__, 2019-05-01 Rome, Photos from 2019; 100APPLE (DCF).
_DATE = re.compile(
    r"(photos from )?(19|20)\d\d([-_. ]?(0[1-9]|1[0-2])([-_. ]?[0-3]\d)?\b.*|\d\d__)?"
)
_OF_CAMERA = re.compile(r"[1-9]\d\d(?=.*[a-z])[a-z0-9_]{5}")

_HOW_TO_SAY = (
    "Say which folder is the class with --class_level=1 (the first one), 2 (the one in "
    "it) ..., or list the images with --source=csv:FILE."
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the folders of some names mean.

    class_level: the folder that is the class; 1 is the first one.
    split_level: the folder that is the split; None without one.
    note: a sentence about the layout, for the user; "" for one folder for each class.
    """

    class_level: int = 1
    split_level: int | None = None
    note: str = ""

    def find_label(self, name: str) -> str | None:
        """Returns the class of a name; None for a file that lies above the classes."""
        folders = name.split("/")[:-1]
        return (
            folders[self.class_level - 1] if len(folders) >= self.class_level else None
        )

    def find_split(self, name: str) -> str | None:
        """Returns the split of a name; None without one."""
        folders = name.split("/")[:-1]
        if self.split_level is None or len(folders) < self.split_level:
            return None
        return split_of_folder(folders[self.split_level - 1])


def split_of_folder(folder: str) -> str | None:
    """Returns the split that a folder is named for, such as train_images; else None."""
    name = folder.lower()
    return find_split(name) or find_split(_AROUND_SPLIT.sub("", name))


def find_layout(names: Iterable[str], *, class_level: int | None = None) -> Layout:
    """Finds out what the folders of relative names mean.

    Args:
      names: relative names of files; each lies in a folder.
      class_level: the value of --class_level; None without the flag.

    Raises:
      ValueError: the folders are clearly not classes.
    """
    if class_level is not None:
        return Layout(class_level)
    inner_of: dict[str, set[str]] = collections.defaultdict(set)
    for name in names:
        first, *rest = name.split("/")
        # "" for a file that lies in the first folder itself.
        inner_of[first].add(rest[0] if len(rest) > 1 else "")
    if not inner_of:
        return Layout()
    layout = _understand(inner_of)
    if layout is None:
        _refuse(inner_of)
    return layout or Layout()


def describe_inner_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Returns a note if every class folder holds folders only: they could be meant.

    names: relative names of files, whose first folder is the class.
    """
    inner_of: dict[str, set[str]] = collections.defaultdict(set)
    for name in names:
        first, *rest = name.split("/")
        inner_of[first].add(rest[0] if len(rest) > 1 else "")
    inner = set().union(*inner_of.values())
    if "" in inner or len(inner) < 2:
        return ()
    return (
        f"the first folders are the classes; the {len(inner)} folders in them "
        f"({texts.list_some(sorted(inner), limit=3)}) do not count, unless you add "
        "--class_level=2",
    )


def _understand(inner_of: Mapping[str, Set[str]]) -> Layout | None:
    """Returns the layout of folders that are splits or years; None for any other.

    inner_of: first folder -> the folders in it, and "" if it holds files.
    """
    with_classes = [folder for folder, inner in inner_of.items() if inner - {""}]
    if _are_splits(inner_of) and any(_is_train(folder) for folder in with_classes):
        classes = set().union(*inner_of.values()) - {""}
        if not _are_parts(classes):
            return Layout(2, 1, "the folders are splits, and are kept")
    inner = set().union(*inner_of.values())
    if len(inner_of) > 1 and _are_splits(inner) and any(map(_is_train, inner)):
        return Layout(1, 2, "the folders in the classes are splits, and are kept")
    if _are_dates(inner_of) and "" not in inner and _overlap(inner_of):
        dates = texts.list_some(sorted(inner_of))
        note = f"the folders {dates} are dates; the folders in them are the classes"
        return Layout(2, None, note)
    return None


def _refuse(inner_of: Mapping[str, Set[str]]) -> None:
    """Raises ValueError if the first folders are clearly not classes."""
    firsts = sorted(inner_of)
    inner = set().union(*inner_of.values())
    listed = texts.list_some(firsts)
    if _are_parts(inner_of) or (_are_splits(inner_of) and _are_parts(inner)):
        found = listed if _are_parts(inner_of) else texts.list_some(sorted(inner))
        raise ValueError(
            "These folders are those of a data set for detection or segmentation, not "
            f"one folder for each class. Received: {found}. {_HOW_TO_SAY}"
        )
    splits = [folder for folder in firsts if _are_splits([folder])]
    if any(map(_is_train, splits)) and len(splits) > 1:
        others = texts.list_some([f for f in firsts if f not in splits])
        raise ValueError(
            f"The folders {texts.list_some(splits)} are named as splits"
            + (f", and {others} is not" if others else ", but train holds no folders")
            + f". Received: {listed}. "
            + ("Move what is no split elsewhere. " if others else "")
            + _HOW_TO_SAY
        )
    if len(firsts) > 1 and _are_dates(inner_of):
        raise ValueError(
            "The folders are dates, or those of a camera, not classes. "
            f"Received: {listed}. {_HOW_TO_SAY}"
        )
    sets = {frozenset(names) for names in inner_of.values()}
    if len(firsts) > 1 and len(sets) == 1 and "" not in inner and len(inner) > 1:
        raise ValueError(
            "All folders hold the same folders, so either could be the classes. "
            f"Received: {listed}, each with {texts.list_some(sorted(inner))}. "
            f"{_HOW_TO_SAY}"
        )


def _are_splits(folders: Iterable[str]) -> bool:
    return all(split_of_folder(folder) for folder in folders)


def _is_train(folder: str) -> bool:
    return split_of_folder(folder) == "train"


def _are_parts(folders: Iterable[str]) -> bool:
    return all(folder.lower() in _PARTS for folder in folders)


def _are_dates(folders: Iterable[str]) -> bool:
    return all(
        _DATE.fullmatch(folder.lower()) or _OF_CAMERA.fullmatch(folder.lower())
        for folder in folders
    )


def _overlap(inner_of: Mapping[str, Set[str]]) -> bool:
    """Tells whether two of the first folders hold a folder of the same name."""
    counts = collections.Counter(name for inner in inner_of.values() for name in inner)
    return max(counts.values(), default=0) > 1
