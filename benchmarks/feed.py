"""How many images a second reach a step on the device that does nothing but read.

`python benchmarks/feed.py PHOTOS [TURNS]`; PHOTOS holds one folder a class. Batches of
64 at 224 px, read by the loop of the trainer: the next batch is on the device before a
step begins. Each way takes its turns on all cores of the machine, and some on one core.
`bare` is what no way of decoding can do without: the bytes are in memory, and each
image is decoded and resized, and nothing is shuffled, batched or copied.

The shards are cold: the kernel forgets them before each epoch. The workers of the data
service are processes on the same cores, so the figures show what a service costs, not
what other machines would add.
"""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile

import tables
import turns
from input_contestants import BATCH, CORES, SEED, SIDE, bare

SECONDS = 2.0  # of each turn
REPEATS = 10  # of the photographs, in an epoch of a data service
POOLED, CONV4 = (2048,), (14, 14, 1024)  # of ResNet50 at 224 px, half precision

# Name -> how the records are made, whether on one core too.
WAYS = {
    "bare decoding and resizing": ("bare", True),
    "cold shards, --cache=off": ("shards", True),
    "encoded images, --cache=memory": ("memory", True),
    "decoded images, --cache=disk": ("decoded", True),
    "pooled features": ("pooled", True),
    "feature maps of conv4": ("conv4", True),
    "data service, 1 worker": ("service 1", False),
    "data service, 2 workers": ("service 2", False),
    "data service, 4 workers": ("service 4", False),
}

_SERVICE_WORKER = """
import sys, tensorflow as tf
service = tf.data.experimental.service
service.WorkerServer(service.WorkerConfig(dispatcher_address=sys.argv[1])).join()
"""


def answer_turns(kind, cores, photographs, data):
    """One contestant: measures images a second."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    sys.path.insert(0, str(tables.ROOT))
    with contextlib.ExitStack() as stack:
        if kind == "bare":
            count = len(list(pathlib.Path(photographs).glob("*/*.jpg")))
            make_epoch = bare(pathlib.Path(photographs), data)

            def run_epoch():
                for _ in make_epoch():
                    pass
        else:
            count, run_epoch = read_as_the_trainer(kind, data, stack)
        turns.answer(lambda: count * turns.time_epochs(run_epoch, SECONDS))


def read_as_the_trainer(kind, data, stack):
    """Returns the number of images of an epoch, and a function that reads one."""
    import tensorflow as tf

    from pipeline.loading import order, prepared_data
    from trainer.distribution import collectives
    from trainer.distribution.runtime import set_up_runtime
    from trainer.training import loop

    runtime = set_up_runtime(
        strategy="one_device",
        precision="float32",
        virtual_devices=1,
        batch_size=BATCH,
        seed=SEED,
    )
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    records = prepared_data.read_records(data, "train", cached=kind == "memory")
    records = keep(runtime, records, kind, folder)
    service = start_service(kind, stack)
    if (
        service
    ):  # Its start takes half a second an epoch, which a large set never feels.
        records = dataclasses.replace(
            records,
            dataset=records.dataset.repeat(REPEATS),
            count=records.count * REPEATS,
        )
    steps = order.num_batches(records.count, BATCH)

    @tf.function
    def read_steps(iterator, batch, num_steps):
        for _ in tf.range(num_steps):
            batch = collectives.read_batch(runtime.strategy, iterator)
        return collectives.copy_batch(runtime.strategy, batch)

    def start_reading():
        return loop.start_reading(
            runtime,
            records,
            image_size=SIDE,
            batch_size=BATCH,
            epoch=1,
            seed=SEED,
            data_service=service,
        )

    batches = start_reading()

    def run_epoch():
        nonlocal batches
        if kind == "shards":
            forget(data)
        if service:  # It ends after one epoch.
            batches = start_reading()
        batches.read_first()
        batches.ready = read_steps(batches.iterator, batches.ready, tf.constant(steps))

    return records.count, run_epoch


def keep(runtime, records, kind, folder):
    """Returns records whose batches hold what this way keeps."""
    import ml_dtypes
    import numpy as np

    from pipeline.loading import prepared_data
    from trainer.features.cache import cache_images
    from trainer.features.cache_dir import FeatureCache

    if kind == "decoded":
        return cache_images(
            runtime,
            FeatureCache(pathlib.Path(folder), 10**11, {}),
            records,
            split="train",
            image_size=SIDE,
            batch_size=BATCH,
        )
    if kind not in ("pooled", "conv4"):
        return records
    shape = (records.count, *(POOLED if kind == "pooled" else CONV4))
    features = np.zeros(shape, ml_dtypes.bfloat16)
    features[:] = np.arange(records.count).reshape(-1, *[1] * (len(shape) - 1))
    labels = prepared_data.read_labels(records)
    return prepared_data.with_features(records, (features,), labels)


def start_service(kind, stack):
    """Returns the address of a data service with some workers, or None."""
    import tensorflow as tf

    if not kind.startswith("service"):
        return None
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.removeprefix("grpc://")
    for _ in range(int(kind.split()[1])):
        worker = subprocess.Popen([sys.executable, "-c", _SERVICE_WORKER, address])
        stack.callback(worker.kill)
    stack.callback(lambda: dispatcher)  # It lives as long as the stack.
    return dispatcher.target


def forget(data):
    for path in pathlib.Path(data).glob("*.tfrecord*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(photographs, num_turns):
    sys.path.insert(0, str(tables.ROOT))
    from pipeline import prepare

    header = tables.describe_machine()
    load = os.getloadavg()[0]
    names = [
        (name, cores)
        for name, (_, on_one_core) in WAYS.items()
        for cores in sorted({CORES, 1} if on_one_core else {CORES})
    ]
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        # Several shards, as the workers of a data service share whole ones.
        prepare.prepare(photographs, data, num_shards=4)
        processes = {
            (name, cores): turns.start(
                __file__, WAYS[name][0], str(cores), photographs, data
            )
            for name, cores in names
        }
        found = {key: [] for key in processes}
        for turn in range(-1, num_turns):
            for key, process in processes.items():
                rate = turns.take_turn(process)
                if turn >= 0:  # the first fills caches and traces
                    found[key].append(rate)
        for process in processes.values():
            turns.stop(process)
    save(header, found, num_turns, load)


def save(header, found, num_turns, load):
    baseline = next(iter(WAYS))
    rows = [
        [
            name,
            str(cores),
            tables.spread(rates, 0),
            tables.spread([rate / cores for rate in rates], 0),
            *(
                tables.spread(
                    [a / b for a, b in zip(rates, found[other], strict=True)], 2
                )
                if other in found
                else ""
                for other in ((baseline, cores), (name, 1))
            ),
        ]
        for (name, cores), rates in found.items()
    ]
    tables.save(
        "feed",
        about=(
            f"Images a second that reach a step that only reads, batches of {BATCH} at "
            f"{SIDE} px; {num_turns} interleaved turns of {SECONDS:g} seconds after "
            "one that is not counted, median and in brackets smallest and largest, "
            f"ratios within a turn; load before: {load:.1f}."
        ),
        header=header,
        columns=["way", "cores", "images/s", "a core", "x bare", "x one core"],
        rows=rows,
        samples={
            f"{name}, {cores} cores": rates for (name, cores), rates in found.items()
        },
    )


if __name__ == "__main__":
    if sys.argv[1] == "--answer":
        answer_turns(*sys.argv[2:])
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
