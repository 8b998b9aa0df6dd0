"""Defines TrainConfig: every setting of a run.

The fields are the only place where a flag's name, type, default, choices and help text
are written; the command line and the reference of the flags are made of them.
"""

import dataclasses
from collections.abc import Mapping

from pipeline.augmentation import presets
from trainer.config import checks
from trainer.config.flag_spec import flag, get_specs
from trainer.config.head_config import HeadConfig
from trainer.config.recipes import RECIPES
from trainer.config.regime_specs import DEFAULT_REGIMES, KNOWN_REGIMES

POOLINGS = ("avg", "max")
SCHEDULES = ("inverse_time", "constant", "cosine", "warmup_cosine")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
BATCH_NORMS = ("trained", "frozen")
XLA = ("auto", "on", "off")
SWEEPS = ("none", "head")
HEAD_STARTS = ("random", "logistic")
FINETUNE_RESULTS = ("best", "average")
CLASS_WEIGHTS = ("auto", "balanced", "none")
CACHES = ("memory", "disk", "off")
CALIBRATIONS = ("temperature", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a run; each field is the flag of the same name.

    The values are checked when the object is made.

    Raises:
      ValueError: a value cannot be used; the message quotes it.
    """

    data_dir: str = flag(
        None,
        "A directory that pipeline.main wrote. Default: MODEL_DIR/data, where --source "
        "is prepared.",
        may_change=True,
        is_required=True,
    )
    source: str | None = flag(
        None,
        "Instead of --data_dir: prepare this source first, into MODEL_DIR/data. "
        "Default: 'sample', the embedded sample.",
    )
    model_dir: str = flag(
        None,
        "Directory of the run. Default: runs/DATE-TIME.",
        may_change=True,
        is_required=True,
    )
    export_dir: str = flag(
        None,
        "Directory of the exports. Default: MODEL_DIR/export.",
        may_change=True,
        is_required=True,
    )
    backbone: str = flag("ResNet50", "A classification model of keras.applications.")
    backbone_args: Mapping[str, object] = flag(
        {}, "Arguments of the backbone, comma-separated, such as alpha=0.25."
    )
    weights: str = flag(
        "auto",
        "The backbone's initial weights: imagenet, random, embedded, a file, or auto. "
        "embedded: a small MobileNet trained on drawings. auto: imagenet; on the "
        "embedded sample without --backbone: embedded.",
    )
    image_size: int = flag(224, "Side in pixels that images are resized to.")
    batch_size: int = flag(32, "Global batch size, over all replicas.")
    augment: str = flag(
        "light",
        "Random changes to training images. basic: shear, zoom, flip; light: flip and "
        "a little zoom, rotation, translation, contrast and brightness; strong: all of "
        "these with larger amounts, and saturation and hue.",
        choices=tuple(presets.PRESETS),
        aliases=presets.ALIASES,
    )
    mix: str = flag(
        "none",
        "Mix each training image with another one: mixup adds them, cutmix pastes a "
        "rectangle of one into the other. With --cached_views the outputs of the "
        "frozen layers are mixed instead of the images.",
        choices=presets.MIXERS,
    )
    recipe: str = flag(
        "best",
        "Defaults of the other flags. best: as this list says; notebook: those of the "
        "notebook that this project replaces; docs/how-to/choose-a-recipe.md has the "
        "table.",
        choices=tuple(RECIPES),
    )
    regimes: tuple[str, ...] = flag(
        DEFAULT_REGIMES,
        f"The regimes to run, in order, of {', '.join(KNOWN_REGIMES)}. top is finetune "
        "under another name; all trains every layer at a tenth of --finetune_lr. A "
        "regime may have settings, and then any name: NAME:freeze=100:lr=0.001:"
        "epochs=5:steps=300; freeze is a number of layers or the name of the last one.",
    )
    pooling: str = flag(
        "avg", "How the head pools the backbone's features.", choices=POOLINGS
    )
    normalize_features: bool = flag(
        True, "Divide the pooled features of each image by their root mean square."
    )
    head_units: int = flag(0, "Units of the head's hidden layer; 0: the head has none.")
    head_start: str = flag(
        "logistic",
        "Initial weights of the head. logistic: those of a logistic regression on the "
        "pooled features of the frozen backbone, solved exactly; needs "
        "--head_units=0. With a flag that only a trained head has, such as --dropout, "
        "the defaults are those of notebook: random, 512 units, 5 epochs.",
        choices=HEAD_STARTS,
    )
    dropout: float = flag(0.0, "Share of the hidden units that training drops.")
    head_epochs: int = flag(
        0, "Epochs of the head regime; may be 0 with --head_start=logistic."
    )
    head_lr: float = flag(0.01, "Learning rate of the head regime.")
    freeze_layers: int | None = flag(
        None,
        "finetune: number of the backbone's layers that stay frozen, counted from the "
        "input. Default: 140 for ResNet50; for another backbone about the same share "
        "of its layers, 0.8, up to the end of a block.",
    )
    freeze_until: str | None = flag(
        None, "Instead of --freeze_layers: name of the last layer to freeze."
    )
    finetune_epochs: int = flag(5, "Epochs of the finetune regime.")
    finetune_steps: int = flag(
        300, "Fewest steps of finetune; few photographs then have more epochs."
    )
    minutes: float | None = flag(
        None,
        "About how long the whole command may take. Each regime measures its speed "
        "first; if there is no time for all of its steps, it has fewer, and its "
        "schedule ends with them. Default: all steps.",
    )
    epoch_steps: int = flag(
        30,
        "Fewest steps of an epoch where --finetune_steps makes more epochs: it is then "
        "several passes over the few photographs. 0: always one pass.",
    )
    finetune_lr: float = flag(0.001, "Learning rate of the finetune regime.")
    finetune_result: str = flag(
        "average",
        "Weights that finetune ends with. best: those of the epoch with the best "
        "validation accuracy; average: the mean of those that it started from and "
        "those of its last epoch, or one of both if it is clearly better on "
        "validation.",
        choices=FINETUNE_RESULTS,
    )
    label_smoothing: float = flag(
        0.1, "Share of each label that training spreads evenly over all classes."
    )
    class_weights: str = flag(
        "auto",
        "Weight of each class in the loss. balanced: inversely proportional to its "
        "number of training images; none: each image counts the same; auto: balanced "
        "if a class has at least twice as many images as another.",
        choices=CLASS_WEIGHTS,
    )
    finetune_batch_norm: str = flag(
        "frozen",
        "finetune: statistics that batch norm uses in the layers that train: those of "
        "each batch (trained) or the stored ones (frozen).",
        choices=BATCH_NORMS,
    )
    schedule: str = flag(
        "warmup_cosine",
        "Learning rate over time. inverse_time: divided by 1 + 1e-6 * step; cosine: "
        "down to zero at the end of the regime; warmup_cosine: the same, after a tenth "
        "of the steps in which it increases from zero.",
        choices=SCHEDULES,
        aliases={"notebook": "inverse_time"},
    )
    strategy: str = flag(
        "auto",
        "How the work is distributed. auto: multi_worker under TF_CONFIG, mirrored "
        "over several GPUs, else one device.",
        choices=STRATEGIES,
        may_change=True,
    )
    virtual_devices: int = flag(
        1,
        "Splits the CPU into this many devices, to try --strategy=mirrored without "
        "GPUs.",
        may_change=True,
    )
    precision: str = flag(
        "auto",
        "Arithmetic in the backbone. auto: half precision where the hardware has it.",
        choices=PRECISIONS,
    )
    xla: str = flag(
        "auto",
        "Compile the model in each step with XLA. auto: on accelerators.",
        choices=XLA,
        may_change=True,
    )
    data_service: str | None = flag(
        None,
        "Decode training images on a tf.data service, such as grpc://HOST:PORT.",
        may_change=True,
    )
    deterministic: bool = flag(
        False,
        "Use only arithmetic that gives the same bits every time; slower on GPUs.",
        may_change=True,
    )
    keep_checkpoints: int = flag(
        2, "Number of the newest checkpoints to keep.", may_change=True
    )
    profile_steps: tuple[int, int] | None = flag(
        None,
        "FIRST,LAST: write a TensorBoard profile of these steps of the run.",
        may_change=True,
    )
    cache: str = flag(
        "memory",
        "What to keep of the images between epochs. memory: encoded bytes, up to 4 GB "
        "of a split; disk: decoded and resized images in --cache_dir, so that later "
        "epochs decode nothing; off: nothing.",
        choices=CACHES,
    )
    cached_views: int | None = flag(
        None,
        "Compute the outputs of the frozen layers once, for this many augmented views "
        "of each image; the epochs take the views in turn. 0: compute them in every "
        "step. Default: 4, fewer if --cache_gb has no room for them.",
    )
    cache_dir: str | None = flag(
        None,
        "Directory of decoded images and of outputs of frozen layers that are computed "
        "once; several runs may share it. Default: MODEL_DIR/features.",
        may_change=True,
    )
    cache_gb: float = flag(
        20.0, "Largest total size of --cache_dir in gigabytes.", may_change=True
    )
    fuse_batch_norm: bool = flag(
        True,
        "Compute batch norm with fewer operations, which round otherwise: in training, "
        "and in frozen layers in each epoch's validation; not in the final evaluation.",
        old_name="fold_frozen",
    )
    sweep: str = flag(
        "none",
        "head: first compare heads on precomputed features by rate, units, dropout, "
        "pooling and number of views (up to --cached_views), and use the best on "
        "validation.",
        choices=SWEEPS,
    )
    head_folds: int = flag(
        0,
        "Also print the head's accuracy in a cross-validation over this many folds of "
        "train and validation. 0: do not.",
        old_name="folds",
    )
    calibration: str = flag(
        "temperature",
        "How probabilities become honest. temperature: the logits are divided by one "
        "number, which is fitted on validation.",
        choices=CALIBRATIONS,
    )
    coverage: float = flag(
        0.9,
        "Share of the prediction sets, the output in_set of a server, that hold the "
        "true class.",
    )
    unknown_rate: float = flag(
        0.05, "Share of images of known classes that a server may call unknown."
    )
    check_labels: bool = flag(
        False,
        "After the training, write label_issues.csv and labels.html: photographs whose "
        "label is probably wrong. Needs pip install -e '.[trust]'.",
        may_change=True,
    )
    seed: int = flag(
        1, "Decides splits, initial weights, order and augmentation of the images."
    )

    def __post_init__(self) -> None:
        """Checks the values; see the class."""
        checks.check_config(self, get_specs(TrainConfig))

    @property
    def head(self) -> HeadConfig:
        """The settings of the head."""
        return HeadConfig(
            self.pooling, self.head_units, self.dropout, self.normalize_features
        )
