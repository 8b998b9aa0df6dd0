"""Strategy, precision and seeds, set up once a process and in one fixed order."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf

from pipeline.dataset import Share


@dataclasses.dataclass(frozen=True)
class Runtime:
    """What a run computes on.

    strategy: the process's one strategy.
    precision: name of the Keras dtype policy that models are built under.
    reason: why --precision=auto chose it, or that it was asked for.
    jit: whether XLA compiles the core of each step.
    deterministic: whether operations without a deterministic form are refused.
    is_chief: whether this process writes the run's files.
    """

    strategy: tf.distribute.Strategy
    precision: str
    reason: str
    jit: bool
    deterministic: bool
    is_chief: bool


def set_up(
    *,
    strategy: str,
    precision: str,
    virtual_devices: int,
    batch_size: int,
    seed: int,
    xla: str = "auto",
    deterministic: bool = False,
) -> Runtime:
    """Sets the process up; call it once, before any tensor is made.

    Raises:
      ValueError: the strategy does not fit the machine, or the global batch size is
        not divisible by the replicas.
    """
    if virtual_devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * virtual_devices,
        )
    made = _make_strategy(strategy)
    replicas = made.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"--batch_size must be divisible by the {replicas} replicas. Received: "
            f"--batch_size={batch_size}"
        )
    keras.utils.set_random_seed(seed)
    if deterministic:
        # keras-cv asks for it, though our augmentation draws nothing from it.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
        tf.config.experimental.enable_op_determinism()
    chosen, reason = choose_precision(precision)
    keras.config.set_dtype_policy(chosen)
    has_accelerator = bool(tf.config.list_physical_devices("GPU"))
    resolver = made.cluster_resolver
    task_id = resolver.task_id if resolver is not None else None
    return Runtime(
        strategy=made,
        precision=chosen,
        reason=reason,
        jit=xla == "on" or (xla == "auto" and has_accelerator),
        deterministic=deterministic,
        is_chief=not task_id,
    )


def _make_strategy(name: str) -> tf.distribute.Strategy:
    tf_config = os.environ.get("TF_CONFIG", "")
    if name == "multi_worker" or (name == "auto" and tf_config):
        # Before anything asks for the logical devices: it has to set up collectives.
        _check_cluster(tf_config)
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    if name == "mirrored" or (name == "auto" and len(devices) > 1):
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy(devices[0].name)


def _check_cluster(tf_config: str) -> None:
    try:
        parsed = json.loads(tf_config)
        valid = bool(parsed["cluster"]["worker"]) and "index" in parsed["task"]
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG with "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
            f'"index": N}}}}. Received: TF_CONFIG={tf_config!r}'
        )


def choose_precision(requested: str) -> tuple[str, str]:
    """--precision -> (Keras dtype policy, reason)."""
    if requested != "auto":
        return requested, "asked for"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if _cpu_has_bfloat16():
            return "mixed_bfloat16", "the CPU has bfloat16 instructions"
        return "float32", "the CPU has no half-precision instructions"
    capability = min(
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    )
    text = f"GPU compute capability {capability[0]}.{capability[1]}"
    if capability >= (8, 0):
        return "mixed_bfloat16", text
    return ("mixed_float16", text) if capability >= (7, 0) else ("float32", text)


def _cpu_has_bfloat16() -> bool:
    cpuinfo = pathlib.Path("/proc/cpuinfo")  # Linux only; elsewhere: not known
    return cpuinfo.is_file() and "avx512_bf16" in cpuinfo.read_text()


def has_several_workers(run: Runtime) -> bool:
    """Whether other processes take part, and may fail."""
    return isinstance(run.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def take_from_chief(run: Runtime, number: int) -> int:
    """The chief's number, on every worker.

    Returns once every worker is here: what the chief wrote before can be read.
    """
    return _add_up(run, int(number) if run.is_chief else 0)


def wait_for_all(run: Runtime) -> None:
    """Returns once every worker is here."""
    take_from_chief(run, 0)


def any_worker(run: Runtime, says: bool) -> bool:
    """Whether one of the workers says so, on every worker."""
    return _add_up(run, int(says)) > 0


def _add_up(run: Runtime, number: int) -> int:
    if not has_several_workers(run):
        return number
    total = _make_sum(run.strategy)(tf.constant(number, tf.int64))
    return int(total) // len(run.strategy.extended.worker_devices)


@functools.cache
def _make_sum(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Traced once: by itself strategy.gather is traced in each call, for 0.1 s."""

    @tf.function
    def add_up(number):
        one_each = strategy.run(lambda: number)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, one_each, axis=None)

    return add_up


def share_of(run: Runtime) -> Share:
    """What of each split this process reads."""
    strategy = run.strategy
    local = len(strategy.extended.worker_devices)
    resolver = strategy.cluster_resolver
    task_id = resolver.task_id if resolver is not None else None
    return Share(strategy.num_replicas_in_sync // local, task_id or 0)


# Not by strategy.distribute_datasets_from_function: it reads through an iterator of its
# own for each device, whose tuner cannot be turned off and sleeps ever longer, up to a
# minute. Whoever is done with an epoch waits until it wakes, as long as the epoch took.
def next_batch(strategy: tf.distribute.Strategy, iterator: tf.data.Iterator):
    """One batch for each of this process's replicas."""
    local = len(strategy.extended.worker_devices)
    parts = [next(iterator) for _ in range(local)]
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % local]
    )
