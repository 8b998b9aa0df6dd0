"""How fast preparation is, against a plain TFDS builder and against bare decoding.

`python benchmarks/preparation.py PHOTOS [SIZES]`; PHOTOS holds one folder a class and
SIZES is a comma-separated list of numbers of images, such as 1000,4000,16000. The
images of the larger sets are copies with changed pixels. Each contestant runs in a
process of its own, in turn, five times (twice for more than 4,000 images). The figures
are medians and the spread of the images per second, without the seconds that importing
TensorFlow takes but with the start of any process; the largest resident memory of a
process; and how many times as long as bare decoding on all cores it took, each run
compared with the one of the same round.
"""

import concurrent.futures
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import tables
from PIL import Image

REPEATS = 5
REPEATS_OF_LARGE_SETS = 2


def decode(path):
    """What no preparation can do without: read the file, decode it."""
    with Image.open(path) as image:
        image.load()


def list_files(folder):
    return sorted(p for p in pathlib.Path(folder).glob("*/*") if p.is_file())


def bare_decoding(folder, out):
    for path in list_files(folder):
        decode(path)


def bare_decoding_on_all_cores(folder, out):
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(decode, list_files(folder), chunksize=32))


def plain_tfds_builder(folder, out):
    """TFDS's own builder for a folder of class folders; it looks at nothing."""
    import tensorflow_datasets as tfds

    class Plain(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "plain"
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = pathlib.Path(out)

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(
                        names=sorted({p.parent.name for p in list_files(folder)})
                    ),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for path in list_files(folder):
                yield str(path), {"image": path, "label": path.parent.name}

    Plain(data_dir=out).download_and_prepare()


def ours(folder, out):
    from pipeline import prepare

    prepare.prepare(folder, os.path.join(out, "data"))


def ours_on_one_core(folder, out):
    os.sched_setaffinity(0, {0})
    ours(folder, out)


CONTESTANTS = {
    function.__name__: function
    for function in (
        ours,
        ours_on_one_core,
        plain_tfds_builder,
        bare_decoding,
        bare_decoding_on_all_cores,
    )
}


def measure(name, folder):
    """Runs one contestant in a fresh process; gives seconds and mebibytes."""
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(name, folder):
    if not name.startswith("bare"):
        import tensorflow_datasets  # noqa: F401 (start-up is not what is measured)

        from pipeline import (
            prepare,  # noqa: F401
            records,  # noqa: F401
        )
    with tempfile.TemporaryDirectory() as out:
        start = time.monotonic()
        CONTESTANTS[name](folder, out)
        seconds = time.monotonic() - start
    kibibytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps({"seconds": seconds, "mebibytes": kibibytes / 1024}))


def grow(paths, size, folder):
    """Writes `size` photographs, repeated ones with changed pixels."""
    for index in range(size):
        path = paths[index % len(paths)]
        target = pathlib.Path(folder) / path.parent.name / f"{index:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        if index < len(paths):
            target.write_bytes(path.read_bytes())
            continue
        with Image.open(path) as image:
            turned = image.convert("RGB").rotate(7.3 * (index // len(paths)))
        turned.save(target, quality=90)


def main(photographs, sizes):
    header = tables.describe_machine("pillow")
    paths = list_files(photographs)
    rows, samples = [], {}
    for size in sizes:
        repeats = REPEATS if size <= 4000 else REPEATS_OF_LARGE_SETS
        with tempfile.TemporaryDirectory() as folder:
            grow(paths, size, folder)
            found = {name: [] for name in CONTESTANTS}
            for _ in range(repeats):
                for name in CONTESTANTS:
                    found[name].append(measure(name, folder))
        bare = [each["seconds"] for each in found["bare_decoding_on_all_cores"]]
        for name, runs in found.items():
            seconds = [each["seconds"] for each in runs]
            ratios = [each / least for each, least in zip(seconds, bare, strict=True)]
            rows.append(
                [
                    f"{size:,}",
                    name.replace("_", " "),
                    tables.spread([size / each for each in seconds], 0),
                    tables.spread(ratios, 2),
                    f"{max(each['mebibytes'] for each in runs):.0f}",
                ]
            )
            samples[f"{size} {name}"] = runs
        print(f"{size} images: done", flush=True)
    tables.save(
        "preparation",
        about=(
            f"{REPEATS} interleaved rounds, {REPEATS_OF_LARGE_SETS} of more than 4,000 "
            "images, without importing TensorFlow; median and in brackets smallest and "
            "largest, ratios within a round; memory is the largest process's."
        ),
        header=header,
        columns=["images", "contestant", "images/s", "times bare decoding", "MiB"],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    if sys.argv[1] == "--run":
        run(sys.argv[2], sys.argv[3])
    else:
        given = sys.argv[2] if len(sys.argv) > 2 else "1000,4000"
        main(sys.argv[1], [int(size) for size in given.split(",")])
