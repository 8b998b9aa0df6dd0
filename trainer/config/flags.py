"""The flags, the frozen TrainConfig made of them, and the regimes that follow."""

import ast
import dataclasses

from absl import flags

from trainer.config.train_config import (
    AUGMENTS,
    BATCH_NORMS,
    CACHES,
    MIXES,
    POOLINGS,
    PRECISIONS,
    REGIMES,
    SCHEDULES,
    STRATEGIES,
    SWEEPS,
    XLA,
    TrainConfig,
    check,
)


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
    config = {
        field.name: values[field.name].value
        for field in dataclasses.fields(TrainConfig)
    }
    config["backbone_args"] = _parse_arguments(config["backbone_args"])
    config["regimes"] = tuple(config["regimes"])
    config["profile_steps"] = _parse_steps(config["profile_steps"])
    config = TrainConfig(**config)
    if config.data_dir is None and config.source is None:
        config = dataclasses.replace(config, source="sample")
    check(config, freeze_layers_given=values["freeze_layers"].present > 0)
    return config


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
