"""prepare(): from a source to the prepared-data directory."""

import csv
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from pipeline import splits
from pipeline.audit import audit_report
from pipeline.audit.decide import Audit, decide
from pipeline.inspection import reencoding
from pipeline.inspection.image_report import ImageReport, hash_pixels, inspect_images
from pipeline.sources.images import SPLITS, Listing, SourceImage
from pipeline.sources.listing import list_images
from pipeline.system import console, files
from pipeline.system.beam import BeamRunner

CONFLICTS = ("drop", "keep", "fail")


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is asked of each image.

    min_side_px: smaller images are left out.
    max_side_px: larger ones are stored smaller; None stores the original bytes.
    conflicts: what happens to a picture filed under several classes: "drop" leaves all
      copies out, "keep" uses each with its class, "fail" is an error.
    """

    min_side_px: int = 16
    max_side_px: int | None = None
    conflicts: str = "drop"


def examine(
    source: str,
    *,
    seed: int,
    rules: Rules,
    work_dir: pathlib.Path,
    engine: BeamRunner | None,
) -> tuple[Listing, Audit]:
    """Lists a source and looks at every image once.

    Raises:
      ValueError: the source cannot be used, or holds a conflict where none may be.
    """
    listing = list_images(source, seed=seed, work_dir=work_dir)
    findings = inspect_images(
        listing.images,
        min_side_px=rules.min_side_px,
        max_side_px=rules.max_side_px,
        engine=engine,
        work_dir=work_dir,
    )
    found = decide(
        findings,
        hash_pixels=functools.partial(
            hash_pixels,
            max_side_px=rules.max_side_px,
            engine=engine,
            work_dir=work_dir,
        ),
        keep_conflicts=rules.conflicts == "keep",
    )
    if found.conflicts and rules.conflicts == "fail":
        raise ValueError(
            f"{len(found.conflicts)} picture(s) are filed under several classes. "
            f"Received: {', '.join(found.conflicts[0])}; remove the wrong copies or "
            "choose --conflicts=drop."
        )
    return listing, found


def audit_only(
    source: str,
    report_dir: str,
    *,
    seed: int,
    rules: Rules,
    strict: bool,
    engine: BeamRunner | None = None,
) -> None:
    """Looks at a source, prints what it finds and writes report_dir/audit.html.

    Raises:
      ValueError: the source cannot be used, or strict and something was found.
    """
    path = pathlib.Path(report_dir) / "audit.html"
    with files.temporary_sibling(path) as work_dir:
        listing, found = examine(
            source, seed=seed, rules=rules, work_dir=work_dir, engine=engine
        )
        audit_report.print_report(listing, found, where=str(path))
        settings = {"source": source, "seed": seed, **dataclasses.asdict(rules)}
        described = audit_report.audit_to_json(listing, found, {}, settings)
        files.write_text(path, audit_report.make_page(described, found))
        print(f"report: {path}")
    if strict:
        _refuse_findings(found)


def _refuse_findings(found: Audit) -> None:
    counts = audit_report.count_findings(found)
    if any(counts.values()):
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        raise ValueError(f"--strict allows no findings. Received: {listed}")


def prepare(
    source: str,
    out_dir: str,
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    folds: int = 0,
    splits_from: str | None = None,
    resplit: bool = False,
    num_shards: int | None = None,
    seed: int = 1,
    rules: Rules = Rules(),
    strict: bool = False,
    engine: BeamRunner | None = None,
    overwrite: bool = False,
) -> None:
    """Looks at a source's images, splits them and writes them as a TFDS dataset.

    The directory appears whole or not at all. It holds what
    `tfds.builder_from_directory` opens, `audit.json` and `audit.html` (everything that
    was found and what was done about it) and `splits.csv` (name, label, SHA-256 of the
    file, group, split).

    Args:
      source: see sources.list_images.
      out_dir: the directory to write.
      fractions: shares of train, validation and test.
      folds: write this many such directories instead, out_dir/fold-0 and so on.
      splits_from: a splits.csv to repeat instead of splitting anew.
      resplit: split anew even if the source has splits of its own.
      num_shards: of each split; None chooses by size.
      seed: decides the split of every group, and what the sample is drawn from.
      rules: what is asked of each image.
      strict: refuse a source in which anything was found.
      engine: looks and writes on its workers; None on this machine alone.
      overwrite: replace an existing out_dir.

    Raises:
      ValueError: the source or an argument cannot be used; says what to do.
    """
    fractions = splits.parse_fractions(fractions)
    if folds and folds < 3:
        raise ValueError(
            "--folds must be at least 3: one part to test on, one to validate on, the "
            f"others to train on. Received: --folds={folds}"
        )
    target = pathlib.Path(out_dir)
    if os.path.lexists(target) and not overwrite:
        raise ValueError(
            f"The output exists already. Received: --out={out_dir}; name another "
            "directory or add --overwrite."
        )
    if not os.path.lexists(target):
        files.check_writable(target, "out")
    given = None if splits_from is None else splits.read_splits(splits_from)
    with files.temporary_sibling(target) as work_dir:
        listing, found = examine(
            source, seed=seed, rules=rules, work_dir=work_dir, engine=engine
        )
        audit_report.print_report(
            listing,
            found,
            where="audit.html of the finished data, or of --audit_only",
        )
        if strict:
            _refuse_findings(found)
        _check_every_class_is_left(listing, found)
        settings = {"source": source, "seed": seed, **dataclasses.asdict(rules)}
        finished = work_dir / "finished"
        for fold in range(folds) if folds else [None]:
            if given is not None:
                split_of = given
                splits.check_names(split_of, list(found.group_of), splits_from)
            else:
                split_of = splits.split_groups(
                    found,
                    by_hash=splits.hash_split(fractions, seed, folds=folds, fold=fold),
                    resplit=resplit or bool(folds),
                )
            splits.check_every_class_in_every_split(
                found, split_of, fractions=None if folds else fractions, seed=seed
            )
            dataset_dir = _write(
                work_dir / "writing",
                listing,
                found,
                split_of,
                settings=settings,
                rules=rules,
                num_shards=num_shards,
                engine=engine,
            )
            place = finished if fold is None else finished / f"fold-{fold}"
            place.parent.mkdir(exist_ok=True)
            dataset_dir.rename(place)
        files.publish_directory(finished, target)
    print(f"prepared data: {target}")


def _write(
    work_dir: pathlib.Path,
    listing: Listing,
    found: Audit,
    split_of: Mapping[str, str],
    *,
    settings: Mapping[str, object],
    rules: Rules,
    num_shards: int | None,
    engine: BeamRunner | None,
) -> pathlib.Path:
    """Writes one complete prepared-data directory below work_dir."""
    images_by_split = {split: [] for split in SPLITS}
    bytes_by_split = dict.fromkeys(SPLITS, 0)
    for finding in found.usable:
        split = split_of[finding.image.name]
        images_by_split[split].append(_as_stored(finding, rules.max_side_px))
        bytes_by_split[split] += finding.stored_bytes
    # Not before: TensorFlow takes seconds to load, and looking needs none of it.
    with console.quiet_tensorflow_import():
        from pipeline import records
    dataset_dir = records.write_records(
        work_dir,
        classes=sorted({finding.image.label for finding in found.usable}),
        images_by_split=images_by_split,
        bytes_by_split=bytes_by_split,
        num_shards=num_shards,
        engine=engine,
    )
    described = audit_report.audit_to_json(listing, found, split_of, settings)
    files.write_json(dataset_dir / "audit.json", described)
    page = audit_report.make_page(described, found)
    files.write_text(dataset_dir / "audit.html", page)
    with open(dataset_dir / "splits.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label", "sha256", "group", "split"])
        for finding in found.usable:
            name, label = finding.image.name, finding.image.label
            group = found.group_of[name]
            writer.writerow([name, label, finding.file_hash, group, split_of[name]])
    audit_report.print_counts(described["classes"])
    return dataset_dir


def _as_stored(finding: ImageReport, max_side_px: int | None) -> SourceImage:
    """The image whose bytes are those to store."""
    if finding.is_stored_as_it_is:
        return finding.image
    read = functools.partial(_read_stored, finding.image.read, max_side_px)
    return dataclasses.replace(finding.image, read=read)


def _read_stored(read: Callable[[], bytes], max_side_px: int | None) -> bytes:
    return reencoding.bytes_to_store(read(), max_side_px=max_side_px)


def _check_every_class_is_left(listing: Listing, found: Audit) -> None:
    left = {finding.image.label for finding in found.usable}
    rejected = {finding.image.name: finding.problem for finding in found.rejected}
    for label in sorted({image.label for image in listing.images} - left):
        reasons = "; ".join(
            f"{image.name}: "
            + rejected.get(image.name, "the same picture is in another class")
            for image in listing.images
            if image.label == label
        )
        raise ValueError(
            f"Class '{label}' has no image that can be used. Received: {reasons[:300]}."
            " Add images or remove the folder."
        )
