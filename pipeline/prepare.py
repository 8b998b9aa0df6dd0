"""Prepares a data set: runs every step from the source to the finished directory."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping

from pipeline.audit import (
    audit_csv,
    audit_json,
    audit_page,
    audit_report,
    usable_classes,
)
from pipeline.audit.decide import Audit, decide
from pipeline.inspection import reencoding
from pipeline.inspection.image_report import ImageReport
from pipeline.inspection.inspect_images import (
    find_sample_bits,
    hash_pixels,
    inspect_images,
)
from pipeline.inspection.reencoding import StoredForm
from pipeline.sources.corrections import apply_corrections, read_corrections
from pipeline.sources.images import SPLITS, Listing, SourceImage
from pipeline.sources.listing import list_images
from pipeline.splits import assign, splits_csv
from pipeline.splits.assign import SplitPlan
from pipeline.system import console, files, texts
from pipeline.system.beam import BeamRunner


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules for a single image, and for finding its class.

    min_side_px: smaller images are left out.
    max_side_px: larger images are stored smaller; None stores the original bytes.
    sample_bits: the bits that 16-bit images use; None finds it out.
    background: what is put behind transparent pixels; see transparency.BACKGROUNDS.
    class_level, csv_columns: see list_images.
    conflicts: what happens to a picture that is filed under several classes. "drop"
      leaves out all its images, "keep" uses each with its class, "fail" is an error.
    corrections: path of a file of corrected labels; see sources/corrections.py.
    """

    min_side_px: int = 16
    max_side_px: int | None = None
    sample_bits: int | None = None
    background: str = "white"
    class_level: int | None = None
    csv_columns: Mapping[str, str] | None = None
    conflicts: str = "drop"
    corrections: str | None = None

    @property
    def form(self) -> StoredForm:
        """How images are stored."""
        return StoredForm(self.max_side_px, self.sample_bits, self.background)


def examine(
    source: str,
    *,
    seed: int,
    rules: Rules,
    work_dir: pathlib.Path,
    beam_runner: BeamRunner | None,
) -> tuple[Listing, Audit]:
    """Lists a source, inspects every image once and decides which images are used.

    Raises:
      ValueError: the source or the corrections cannot be used, or the source holds a
        conflict and conflicts="fail".
    """
    # Read before the listing, which may be a download: a mistake shows at once.
    corrections = read_corrections(rules.corrections) if rules.corrections else None
    listing = list_images(
        source,
        seed=seed,
        work_dir=work_dir,
        class_level=rules.class_level,
        csv_columns=rules.csv_columns,
    )
    if corrections is not None:
        listing = apply_corrections(listing, corrections)
    image_reports = inspect_images(
        listing.images,
        min_side_px=rules.min_side_px,
        form=rules.form,
        beam_runner=beam_runner,
        work_dir=work_dir,
    )
    sample_bits = find_sample_bits(image_reports)
    if sample_bits not in (None, 16):
        note = (
            f"16-bit images use {sample_bits} of 16 bits and are stored with the upper "
            "8 of them"
        )
        listing = dataclasses.replace(listing, notes=(*listing.notes, note))
    audit = decide(
        image_reports,
        hash_pixels=functools.partial(
            hash_pixels,
            form=dataclasses.replace(rules.form, sample_bits=sample_bits),
            beam_runner=beam_runner,
            work_dir=work_dir,
        ),
        keep_conflicts=rules.conflicts == "keep",
    )
    if audit.conflicts and rules.conflicts == "fail":
        raise ValueError(
            "--conflicts=fail allows no picture under several classes. Received: "
            f"{len(audit.conflicts)} such pictures; the files of the first are "
            f"{texts.list_some(audit.conflicts[0])}. Remove the wrong copies or use "
            "--conflicts=drop."
        )
    return listing, audit


def audit_only(
    source: str,
    report_dir: str,
    *,
    seed: int,
    rules: Rules,
    strict: bool,
    beam_runner: BeamRunner | None = None,
) -> None:
    """Examines a source, prints the findings, writes audit.html and audit.csv.

    Raises:
      ValueError: the source cannot be used, or strict is set and there are findings.
    """
    path = pathlib.Path(report_dir) / "audit.html"
    audit_csv.check_replaceable(path.with_name("audit.csv"))
    with files.temporary_sibling(path) as work_dir:
        listing, audit = examine(
            source, seed=seed, rules=rules, work_dir=work_dir, beam_runner=beam_runner
        )
        audit_report.print_report(
            listing, audit, conflicts=rules.conflicts, full_report=str(path)
        )
        settings = {"source": source, "seed": seed, **dataclasses.asdict(rules)}
        content = audit_json.audit_to_json(listing, audit, {}, settings)
        audit_page.write_page(path.parent, content, audit)
        print(f"report: {path}")
    if strict:
        _refuse_findings(audit)


def _refuse_findings(audit: Audit) -> None:
    counts = audit_json.count_findings(audit)
    if any(counts.values()):
        findings = ", ".join(
            f"{count} {kind}" for kind, count in counts.items() if count
        )
        raise ValueError(
            f"--strict allows no findings. Received: {findings}. Correct the source or "
            "leave out --strict."
        )


# Longer than 60 lines: it is the order of the whole preparation, and no step of it
# belongs elsewhere.
def prepare(
    source: str,
    out_dir: str,
    *,
    plan: SplitPlan | None = None,
    num_shards: int | None = None,
    rules: Rules = Rules(),
    strict: bool = False,
    beam_runner: BeamRunner | None = None,
    overwrite: bool = False,
) -> None:
    """Examines a source, splits its images and writes them as a TFDS data set.

    The directory appears whole or not at all. `tfds.builder_from_directory` opens it.
    Beside the shards it holds `audit.json`, `audit.html` and `audit.csv` (all findings
    and what was done about them) and `splits.csv` (see splits.write_splits).

    Args:
      source: see listing.list_images.
      out_dir: the directory to write.
      plan: how the images are split; None is SplitPlan(). Folds are directories of
        their own, out_dir/fold-0 and so on. The seed also decides the images of the
        source "sample".
      num_shards: number of shards of each split; None chooses it by size.
      rules: the rules for a single image.
      strict: refuse a source with findings.
      beam_runner: inspects and writes the images; None uses this machine.
      overwrite: replace an existing out_dir.

    Raises:
      ValueError: the source or an argument cannot be used.
    """
    plan = plan or SplitPlan()
    target = pathlib.Path(out_dir)
    if files.restore_directory(target):
        print(f"restored after an interruption: {texts.escape_controls(out_dir)}")
    if os.path.lexists(target) and not overwrite:
        raise ValueError(
            f"The output exists already. Received: --out={out_dir}. Choose another "
            "directory or add --overwrite."
        )
    if not os.path.lexists(target):
        files.check_writable(target, "out")
    files.check_outside(target, source)
    if plan.splits_from is not None:  # A mistake shows before the long inspection.
        splits_csv.read_splits(plan.splits_from)
    with files.temporary_sibling(target) as work_dir:
        listing, audit = examine(
            source,
            seed=plan.seed,
            rules=rules,
            work_dir=work_dir,
            beam_runner=beam_runner,
        )
        audit_report.print_report(
            listing,
            audit,
            conflicts=rules.conflicts,
            full_report="audit.html of the finished data",
        )
        if strict:
            _refuse_findings(audit)
        usable_classes.check_every_class(listing, audit)
        assignment = assign.assign_splits(audit, plan)
        for note in assignment.notes:
            print(texts.escape_controls(note))
        audit = assignment.audit
        listing = dataclasses.replace(
            listing, notes=(*listing.notes, *assignment.notes)
        )
        settings = {"source": source, "seed": plan.seed, **dataclasses.asdict(rules)}
        finished = work_dir / "finished"
        for fold, split_of in enumerate(assignment.splits_of_folds):
            dataset_dir = _write_records(
                work_dir / "writing",
                audit,
                split_of,
                form=rules.form,
                num_shards=num_shards,
                beam_runner=beam_runner,
            )
            content = audit_json.audit_to_json(listing, audit, split_of, settings)
            files.write_json(dataset_dir / "audit.json", content)
            audit_page.write_page(dataset_dir, content, audit)
            splits_csv.write_splits(dataset_dir / "splits.csv", audit, split_of)
            audit_report.print_counts(content["classes"])
            place = finished / f"fold-{fold}" if plan.num_folds else finished
            place.parent.mkdir(exist_ok=True)
            dataset_dir.rename(place)
        files.publish_directory(finished, target)
    print(f"prepared data: {target}")


def _write_records(
    work_dir: pathlib.Path,
    audit: Audit,
    split_of: Mapping[str, str],
    *,
    form: StoredForm,
    num_shards: int | None,
    beam_runner: BeamRunner | None,
) -> pathlib.Path:
    """Writes the shards below work_dir; returns the data set directory."""
    images_by_split: dict[str, list[SourceImage]] = {split: [] for split in SPLITS}
    bytes_by_split = dict.fromkeys(SPLITS, 0)
    for report in audit.usable:
        split = split_of[report.image.name]
        images_by_split[split].append(_image_to_store(report, form))
        bytes_by_split[split] += report.stored_bytes
    # Imported only now: TensorFlow takes seconds, and the inspection may not need it.
    with console.quiet_tensorflow_import():
        from pipeline import records
    return records.write_records(
        work_dir,
        classes=sorted({report.image.label for report in audit.usable}),
        images_by_split=images_by_split,
        bytes_by_split=bytes_by_split,
        num_shards=num_shards,
        beam_runner=beam_runner,
    )


def _image_to_store(report: ImageReport, form: StoredForm) -> SourceImage:
    """Returns the image with a reader that returns the bytes to store."""
    if not report.needs_reencoding:
        return report.image
    form = dataclasses.replace(form, sample_bits=report.sample_bits or None)
    read = functools.partial(_read_and_reencode, report.image.read, form)
    return dataclasses.replace(report.image, read=read)


def _read_and_reencode(read: Callable[[], bytes], form: StoredForm) -> bytes:
    return reencoding.bytes_to_store(read(), form)
