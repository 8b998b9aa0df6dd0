"""Apache Beam, for data sets that do not fit one machine."""

import base64
import dataclasses
import pathlib
import pickle
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class BeamRunner:
    """A Beam runner and its options, as its command line takes them.

    Workers must be able to import `pipeline` and to read the source and write the
    output, which therefore lie on a file system that all of them share.
    """

    runner: str
    options: tuple[str, ...] = ()

    def pipeline_options(self):
        """The options as Beam's object.

        Raises:
          ValueError: Apache Beam is not installed.
        """
        try:
            from apache_beam.options import pipeline_options
        except ImportError as error:
            raise ValueError(
                "Apache Beam is not installed: pip install -e '.[beam]'. Received: "
                f"--beam_runner={self.runner}"
            ) from error
        return pipeline_options.PipelineOptions(
            [f"--runner={self.runner}", *self.options]
        )


def beam_map(
    engine: BeamRunner, function: Callable, items: Sequence, *, work_dir: pathlib.Path
) -> list:
    """[function(item) for item in items], in any order, on the engine's workers.

    function, items and results are pickled; the results pass through work_dir.
    """
    options = engine.pipeline_options()
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
