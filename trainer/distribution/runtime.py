"""Sets up strategy, precision and seeds: once in a process, in one fixed order."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from trainer.distribution.preemption import StopSignal


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The devices and the arithmetic of a run.

    strategy: the only strategy of the process.
    precision: name of the Keras dtype policy that models are built under.
    reason: why --precision=auto chose it, or that the flag did.
    jit: True if XLA compiles the core of each step.
    deterministic: True if operations without a deterministic form are refused.
    is_chief: True if this process writes the files of the run.
    stop_signal: is set after the process was asked to stop.
    """

    strategy: tf.distribute.Strategy
    precision: str
    reason: str
    jit: bool
    deterministic: bool
    is_chief: bool
    stop_signal: StopSignal = dataclasses.field(default_factory=StopSignal)


def set_up_runtime(
    *,
    strategy: str,
    precision: str,
    virtual_devices: int,
    batch_size: int,
    seed: int,
    xla: str = "auto",
    deterministic: bool = False,
    stop_signal: StopSignal | None = None,
) -> Runtime:
    """Sets up the process. Call it once, before any tensor is made.

    Raises:
      ValueError: the strategy does not fit the machine, or the global batch size is
        not divisible by the replicas.
    """
    if virtual_devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * virtual_devices,
        )
    distribution = _make_strategy(strategy)
    replicas = distribution.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"--batch_size must be divisible by the {replicas} replicas. Received: "
            f"--batch_size={batch_size}"
        )
    keras.utils.set_random_seed(seed)
    if deterministic:
        # keras-cv needs the generator, although our augmentation draws nothing from it.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
        tf.config.experimental.enable_op_determinism()
    policy, reason = choose_precision(precision)
    keras.config.set_dtype_policy(policy)
    has_accelerator = bool(tf.config.list_physical_devices("GPU"))
    resolver = distribution.cluster_resolver
    task_id = resolver.task_id if resolver is not None else None
    return Runtime(
        strategy=distribution,
        precision=policy,
        reason=reason,
        jit=xla == "on" or (xla == "auto" and has_accelerator),
        deterministic=deterministic,
        is_chief=not task_id,
        stop_signal=stop_signal or StopSignal(),
    )


def _make_strategy(name: str) -> tf.distribute.Strategy:
    tf_config = os.environ.get("TF_CONFIG", "")
    if name == "multi_worker" or (name == "auto" and tf_config):
        # Before the logical devices are listed: the strategy has to set up collectives.
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
    """Returns the Keras dtype policy for --precision, and the reason for it."""
    if requested != "auto":
        return requested, "set by --precision"
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


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Computes float32 products in float32; GPUs round them to TF32 by default.

    See tf.config.experimental.enable_tensor_float_32_execution.
    """
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _cpu_has_bfloat16() -> bool:
    cpuinfo = pathlib.Path(
        "/proc/cpuinfo"
    )  # Only Linux has it; elsewhere the answer is not known.
    return cpuinfo.is_file() and "avx512_bf16" in cpuinfo.read_text()
