"""Runs functions on Apache Beam, for data sets that are too large for one machine."""

import base64
import dataclasses
import pathlib
import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """A Beam runner and its options, written as on Beam's own command line.

    The workers must be able to import `pipeline`, to read the source and to write the
    output. Source and output must therefore be on a file system that all workers share.
    """

    runner: str
    options: tuple[str, ...] = ()

    def pipeline_options(self) -> "PipelineOptions":
        """Returns the runner and its options as Beam's object.

        Raises:
          ValueError: Apache Beam is not installed.
        """
        try:
            from apache_beam.options import pipeline_options
        except ImportError as error:
            raise ValueError(
                "Apache Beam is not installed. Received: "
                f"--beam_runner={self.runner}. Run pip install -e '.[beam]', or leave "
                "out --beam_runner."
            ) from error
        return pipeline_options.PipelineOptions(
            [f"--runner={self.runner}", *self.options]
        )


def beam_map(
    beam_runner: BeamRunner,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    work_dir: pathlib.Path,
) -> list[Result]:
    """Returns [function(item) for item in items], in any order, computed by Beam.

    The function, the items and the results are pickled. The workers write the results
    to files in work_dir.
    """
    options = beam_runner.pipeline_options()
    import apache_beam as beam

    prefix = work_dir / "mapped"
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(items))
            | beam.Reshuffle()
            | beam.Map(function)
            | beam.Map(lambda result: base64.b64encode(pickle.dumps(result)).decode())
            | beam.io.WriteToText(str(prefix))
        )
    results = []
    for path in work_dir.glob("mapped-*"):
        with open(path, encoding="ascii") as file:
            results += [pickle.loads(base64.b64decode(line)) for line in file]
        path.unlink()
    return results
