"""The flags, the frozen TrainConfig made of them, and the regimes that follow."""

import ast
import dataclasses
import math
from collections.abc import Mapping

from absl import flags

REGIMES = ("head", "finetune")
POOLINGS = ("avg", "max")
SCHEDULES = ("notebook", "constant", "cosine")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
BATCH_NORMS = ("trained", "frozen")
AUGMENTS = ("notebook", "light", "strong", "none")
MIXES = ("none", "mixup", "cutmix")
XLA = ("auto", "on", "off")
SWEEPS = ("none", "head")
CACHES = ("memory", "disk", "off")

# What another machine, or another way to watch, may change in a run that continues.
# Data that moved is known by its content.
MAY_CHANGE = frozenset(
    {
        "data_dir",
        "model_dir",
        "export_dir",
        "strategy",
        "virtual_devices",
        "xla",
        "data_service",
        "deterministic",
        "keep_checkpoints",
        "profile_steps",
        "cache_dir",
        "cache_gb",
    }
)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every setting of a run; each field is the flag of the same name."""

    data_dir: str | None
    source: str | None
    model_dir: str | None
    export_dir: str | None
    backbone: str
    backbone_args: Mapping[str, object]
    weights: str
    image_size: int
    batch_size: int
    augment: str
    mix: str
    regimes: tuple[str, ...]
    pooling: str
    head_units: int
    dropout: float
    head_epochs: int
    head_lr: float
    freeze_layers: int
    freeze_until: str | None
    finetune_epochs: int
    finetune_lr: float
    finetune_batch_norm: str
    schedule: str
    strategy: str
    virtual_devices: int
    precision: str
    xla: str
    data_service: str | None
    deterministic: bool
    keep_checkpoints: int
    profile_steps: tuple[int, int] | None
    cache: str
    cached_views: int
    cache_dir: str | None
    cache_gb: float
    fold_frozen: bool
    sweep: str
    folds: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Regime:
    """One stage of training: what trains, how fast and for how long.

    frozen: how much of the backbone stays as it is: None for all of it, else its first
      layers, by their number or by the name of the last one.
    train_batch_norm: batch norm in the backbone's layers that train uses the statistics
      of the batch.
    learning_rate, momentum, schedule: of SGD; see loop.make_optimizer.
    """

    name: str
    frozen: int | str | None
    train_batch_norm: bool
    epochs: int
    learning_rate: float
    momentum: float
    schedule: str


def define_flags(values: flags.FlagValues) -> None:
    """Defines the trainer's flags on `values`."""

    def string(name, default, text):
        flags.DEFINE_string(name, default, text, flag_values=values)

    def integer(name, default, text):
        flags.DEFINE_integer(name, default, text, flag_values=values)

    def number(name, default, text):
        flags.DEFINE_float(name, default, text, flag_values=values)

    def choice(name, default, choices, text):
        flags.DEFINE_enum(name, default, choices, text, flag_values=values)

    string("data_dir", None, "A directory that pipeline.main wrote.")
    string(
        "source",
        None,
        "Instead of --data_dir: prepare this source first, into MODEL_DIR/data. "
        "Default: 'sample', the embedded sample.",
    )
    string("model_dir", None, "Directory of the run. Default: runs/DATE-TIME.")
    string("export_dir", None, "Directory of the exports. Default: MODEL_DIR/export.")
    string("backbone", "ResNet50", "A classification model of keras.applications.")
    flags.DEFINE_list(
        "backbone_args",
        [],
        "Arguments of the backbone, comma-separated, such as alpha=0.25.",
        flag_values=values,
    )
    string(
        "weights",
        "auto",
        "The backbone's initial weights: imagenet, random, a file, or auto: imagenet, "
        "and on the embedded sample alone random where they cannot be downloaded.",
    )
    integer("image_size", 224, "Side in pixels that images are resized to.")
    integer("batch_size", 64, "Global batch size, over all replicas.")
    choice(
        "augment",
        "notebook",
        AUGMENTS,
        "Random changes to training images. notebook: shear, zoom, flip; light: flip "
        "and a little zoom, rotation, translation, contrast and brightness; strong: "
        "all of these, further, and saturation and hue.",
    )
    choice(
        "mix",
        "none",
        MIXES,
        "Mix each training image with another: mixup adds them, cutmix cuts one into "
        "the other. With --cached_views what the frozen layers made is mixed.",
    )
    flags.DEFINE_list(
        "regimes", list(REGIMES), "What to run, in order.", flag_values=values
    )
    choice("pooling", "avg", POOLINGS, "How the head pools the backbone's features.")
    integer("head_units", 512, "Units of the head's hidden layer.")
    number("dropout", 0.0, "Share of the head's hidden units dropped in training.")
    integer("head_epochs", 5, "Epochs of the head regime: the backbone is frozen.")
    number("head_lr", 0.01, "Learning rate of the head regime.")
    integer(
        "freeze_layers",
        140,
        "finetune: how many of the backbone's layers stay frozen, counted from the "
        "input.",
    )
    string(
        "freeze_until", None, "Instead of --freeze_layers: the last layer to freeze."
    )
    integer("finetune_epochs", 10, "Epochs of the finetune regime.")
    number("finetune_lr", 0.001, "Learning rate of the finetune regime.")
    choice(
        "finetune_batch_norm",
        "trained",
        BATCH_NORMS,
        "finetune: whether batch norm in the layers that train uses the statistics of "
        "each batch (trained) or those it came with (frozen).",
    )
    choice(
        "schedule",
        "notebook",
        SCHEDULES,
        "Learning rate over time. notebook: divided by 1 + 1e-6 for each step.",
    )
    choice(
        "strategy",
        "auto",
        STRATEGIES,
        "How to spread the work. auto: multi_worker under TF_CONFIG, mirrored over "
        "several GPUs, else one device.",
    )
    integer(
        "virtual_devices",
        1,
        "Splits the CPU into this many devices, to try --strategy=mirrored without "
        "GPUs.",
    )
    choice(
        "precision",
        "auto",
        PRECISIONS,
        "Arithmetic in the backbone. auto: half precision where the hardware has it.",
    )
    choice(
        "xla",
        "auto",
        XLA,
        "Whether XLA compiles the model in each step. auto: on accelerators.",
    )
    string(
        "data_service",
        None,
        "Decode training images on a tf.data service, such as grpc://HOST:PORT.",
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Only arithmetic that gives the same bits every time; slower on GPUs.",
        flag_values=values,
    )
    integer("keep_checkpoints", 2, "How many of the newest checkpoints to keep.")
    flags.DEFINE_list(
        "profile_steps",
        None,
        "FIRST,LAST: write a TensorBoard profile of these steps of the run.",
        flag_values=values,
    )
    choice(
        "cache",
        "memory",
        CACHES,
        "What is kept of the images between epochs. memory: encoded bytes, up to 4 GB "
        "of a split; disk: in --cache_dir, decoded and resized, which spares every "
        "later epoch the decoding and rounds to whole numbers; off: nothing.",
    )
    integer(
        "cached_views",
        0,
        "Compute what the frozen layers make of so many augmented views of each image "
        "once; the epochs take them in turn. 0 computes it anew in every step.",
    )
    string(
        "cache_dir",
        None,
        "Directory of what is computed once: decoded images and what frozen layers "
        "made; runs may share it. Default: MODEL_DIR/features.",
    )
    number("cache_gb", 20.0, "At most so many gigabytes lie in --cache_dir.")
    flags.DEFINE_bool(
        "fold_frozen",
        True,
        "Fold batch norm of frozen layers into their convolutions, in training and in "
        "each epoch's validation; the final evaluation does not.",
        flag_values=values,
    )
    choice(
        "sweep",
        "none",
        SWEEPS,
        "head: first compare heads on cached features by their rate, units, dropout, "
        "pooling and number of views (up to --cached_views), and keep the best on "
        "validation.",
    )
    integer(
        "folds",
        0,
        "Also print the head's accuracy over so many folds of train and validation. 0: "
        "do not.",
    )
    integer("seed", 1, "Decides splits, initial weights, order and augmentation.")


def from_flags(values: flags.FlagValues) -> TrainConfig:
    """Reads and checks the parsed flags.

    Raises:
      ValueError: a value cannot be used; quotes it.
    """
    settings = {
        field.name: values[field.name].value
        for field in dataclasses.fields(TrainConfig)
    }
    settings["backbone_args"] = _parse_arguments(settings["backbone_args"])
    settings["regimes"] = tuple(settings["regimes"])
    settings["profile_steps"] = _parse_steps(settings["profile_steps"])
    config = TrainConfig(**settings)
    if config.data_dir is None and config.source is None:
        config = dataclasses.replace(config, source="sample")
    _check(config, freeze_layers_given=values["freeze_layers"].present > 0)
    return config


def _check(config: TrainConfig, *, freeze_layers_given: bool) -> None:
    if config.data_dir is not None and config.source is not None:
        raise ValueError(
            "--data_dir is prepared data, --source is to be prepared: give one. "
            f"Received: --data_dir={config.data_dir} --source={config.source}"
        )
    if config.freeze_until is not None and freeze_layers_given:
        raise ValueError(
            "--freeze_until and --freeze_layers say the same thing: give one. Received:"
            f" --freeze_until={config.freeze_until} "
            f"--freeze_layers={config.freeze_layers}"
        )
    known = set(config.regimes) <= set(REGIMES)
    if (
        not known
        or not config.regimes
        or len(set(config.regimes)) < len(config.regimes)
    ):
        raise ValueError(
            f"--regimes must be one or more of {','.join(REGIMES)}, each once. "
            f"Received: --regimes={','.join(config.regimes)}"
        )
    for name in (
        "image_size",
        "batch_size",
        "head_units",
        "head_epochs",
        "head_lr",
        "finetune_epochs",
        "finetune_lr",
        "virtual_devices",
        "keep_checkpoints",
        "cache_gb",
    ):
        value = getattr(config, name)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(
                f"--{name} must be a positive number. Received: --{name}={value}"
            )
    for name in ("freeze_layers", "cached_views", "folds", "seed"):
        value = getattr(config, name)
        if value < 0:
            raise ValueError(
                f"--{name} must not be negative. Received: --{name}={value}"
            )
    if not 0 <= config.dropout < 1:
        raise ValueError(
            "--dropout must be at least 0 and less than 1. Received: "
            f"--dropout={config.dropout}"
        )

    if config.folds == 1:
        raise ValueError(
            "--folds must be at least 2, or 0 for none. Received: --folds=1"
        )
    if (config.sweep != "none" or config.folds) and "head" not in config.regimes:
        raise ValueError(
            "--sweep and --folds try heads for the head regime. Received: --sweep="
            f"{config.sweep} --folds={config.folds} "
            f"--regimes={','.join(config.regimes)}"
        )

    if config.mix == "cutmix" and config.cached_views and "head" in config.regimes:
        raise ValueError(
            "In the head regime --cached_views keeps pooled features, which have no "
            f"area to cut. Received: --mix=cutmix --cached_views={config.cached_views};"
            " take --mix=mixup, --cached_views=0 or --regimes=finetune."
        )
    if config.data_service is not None:
        if config.cache == "disk":
            raise ValueError(
                "A data service decodes the images, so there are none to keep. "
                f"Received: --data_service={config.data_service} --cache=disk"
            )
        if config.cached_views:
            raise ValueError(
                "--cached_views reads no images after the first pass, so a data service"
                " has nothing to do. Received: --data_service="
                f"{config.data_service} --cached_views={config.cached_views}"
            )
        if not config.data_service.startswith("grpc://"):
            raise ValueError(
                "--data_service must be the address of a dispatcher, grpc://HOST:PORT. "
                f"Received: --data_service={config.data_service}"
            )
        if config.deterministic:
            raise ValueError(
                "--deterministic needs the examples in one order, which a data service "
                f"does not keep. Received: --data_service={config.data_service} "
                "--deterministic"
            )


def _parse_steps(texts: list[str] | None) -> tuple[int, int] | None:
    if texts is None:
        return None
    if len(texts) == 2 and all(text.isdecimal() for text in texts):
        first, last = (int(text) for text in texts)
        if first < last:
            return first, last
    raise ValueError(
        "--profile_steps must be two numbers of steps, FIRST,LAST. Received: "
        f"--profile_steps={','.join(texts)}"
    )


def _parse_arguments(pairs: list[str]) -> dict[str, object]:
    """["alpha=0.25", "depth=2"] -> {"alpha": 0.25, "depth": 2}."""
    arguments = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(
                "--backbone_args must be comma-separated key=value pairs. Received: "
                f"--backbone_args={','.join(pairs)}"
            )
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[name] = text
    return arguments


def make_regimes(config: TrainConfig) -> list[Regime]:
    """The stages of a run; another stage is another row."""
    common = {"momentum": 0.9, "schedule": config.schedule}
    rows = {
        "head": Regime(
            name="head",
            frozen=None,
            train_batch_norm=False,
            epochs=config.head_epochs,
            learning_rate=config.head_lr,
            **common,
        ),
        "finetune": Regime(
            name="finetune",
            frozen=config.freeze_until or config.freeze_layers,
            train_batch_norm=config.finetune_batch_norm == "trained",
            epochs=config.finetune_epochs,
            learning_rate=config.finetune_lr,
            **common,
        ),
    }
    return [rows[name] for name in config.regimes]
