"""Compares new photographs with a version's own: `python -m export.drift PHOTOGRAPHS`.

It needs --export_dir, whose newest version holds a reference: what its validation
photographs look like to the model. It writes drift.html and drift.json.
"""

import contextlib
import pathlib
import sys
import warnings
from collections.abc import Sequence

from absl import flags
from PIL import Image

from export.drift_check import asking, comparison, page, photographs, sentences
from export.drift_check.comparison import DriftReport
from export.drift_check.reference import read_reference
from export.remote import image_files
from export.version import publish
from pipeline.system import command_line, console, files
from pipeline.system.texts import escape_controls

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "export_dir",
    None,
    "Directory of the versions; it has the reference.",
    required=True,
)
flags.DEFINE_string(
    "server",
    None,
    "HOST:PORT (gRPC) of a server of --export_dir that answers. By default the newest "
    "version answers in this process.",
)
flags.DEFINE_string("out", ".", "Directory that gets drift.html and drift.json.")
flags.DEFINE_float(
    "fail_below",
    None,
    "Exit with 1 if p is below this, such as 0.01. It is then also the limit of 'drift "
    "found'.",
    # Of six tests with 4,999 permutations the smallest possible p is 0.0012.
    lower_bound=0.002,
    upper_bound=1.0,
)

_PAGE_FILE, _JSON_FILE = "drift.html", "drift.json"


def main(argv: list[str]) -> None:
    """Compares the photographs that the arguments name; exits with 1 as asked for."""
    # The size of an image is checked by the model.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    limit = FLAGS.fail_below or sentences.DEFAULT_LIMIT
    try:
        report = run(
            argv[1:],
            pathlib.Path(FLAGS.export_dir),
            FLAGS.server,
            pathlib.Path(FLAGS.out),
            limit=limit,
        )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        console.fail("export.drift", error)
    sys.exit(FLAGS.fail_below is not None and report["p"] < limit)


def run(
    arguments: Sequence[str],
    export_dir: pathlib.Path,
    server: str | None,
    out_dir: pathlib.Path,
    *,
    limit: float,
) -> DriftReport:
    """Compares photographs with the reference of a version and writes the report.

    Args:
      arguments: photographs, or folders of photographs.
      export_dir: directory of the versions.
      server: HOST:PORT of a server of export_dir; None asks the newest version.
      out_dir: directory that gets drift.html and drift.json.
      limit: drift is found if p is below it.

    Raises:
      OSError: a file cannot be written.
      ValueError: there is no photograph, no reference or no answer.
    """
    files.check_writable(out_dir, "out")
    paths = image_files.find_images(arguments)
    with contextlib.ExitStack() as stack:
        if server is None:
            version_dir = _find_newest(export_dir)
            reference = read_reference(version_dir)
            comparison.check_size(reference, str(version_dir))
            ask = stack.enter_context(asking.open_version(version_dir))
        else:
            ask, version = stack.enter_context(asking.open_server(server, export_dir))
            version_dir = export_dir / str(version)
            reference = read_reference(version_dir)
            comparison.check_size(reference, str(version_dir))
        answers, decoded_paths, left_out = photographs.ask_for_photographs(ask, paths)
    names = [escape_controls(path) for path in decoded_paths]
    report = comparison.compare(
        reference, answers, names, version=str(version_dir), left_out=left_out
    )
    path_of = dict(zip(names, decoded_paths, strict=True))
    _write_and_print(report, path_of, out_dir, limit=limit)
    return report


def _find_newest(export_dir: pathlib.Path) -> pathlib.Path:
    versions = publish.list_versions(export_dir)
    if not versions:
        raise ValueError(
            "--export_dir must be a directory that export.main has written. Received: "
            f"--export_dir={export_dir}, which "
            + ("has no version." if export_dir.is_dir() else "does not exist.")
        )
    return export_dir / str(versions[-1])


def _write_and_print(
    report: DriftReport, path_of: dict[str, str], out_dir: pathlib.Path, *, limit: float
) -> None:
    html = page.render_page(report, path_of, limit=limit)
    out_dir.mkdir(parents=True, exist_ok=True)
    files.write_json(out_dir / _JSON_FILE, report)
    files.write_text(out_dir / _PAGE_FILE, html)
    print(sentences.headline(report, limit))
    for line in sentences.list_changes(report, limit):
        print(f"- {line}")
    for line in sentences.describe_counts(report):
        print(f"note: {line}")
    print(f"see {out_dir / _PAGE_FILE}; the figures: {out_dir / _JSON_FILE}")


def run_command() -> None:
    """Runs the command line."""
    command_line.run(main)


if __name__ == "__main__":
    run_command()
