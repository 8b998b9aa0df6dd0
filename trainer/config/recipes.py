"""Defines the recipes: named defaults for the flags of a run.

A flag on the command line overrides them. `config.json` holds every value.
"""

from collections.abc import Mapping

# The defaults of the flags themselves are the recipe "best".
RECIPES: Mapping[str, Mapping[str, object]] = {
    "best": {},
    "notebook": {
        "augment": "basic",
        "batch_size": 64,
        "cached_views": 0,
        "class_weights": "none",
        "head_start": "random",
        "normalize_features": False,
        "head_units": 512,
        "head_epochs": 5,
        "finetune_epochs": 10,
        "finetune_steps": 0,
        "epoch_steps": 0,
        "finetune_lr": 0.001,
        "finetune_batch_norm": "trained",
        "finetune_result": "best",
        "label_smoothing": 0.0,
        "schedule": "inverse_time",
    },
}

# Defaults with a flag that a solved head does not have, such as --dropout.
TRAINED_HEAD: Mapping[str, object] = {
    name: RECIPES["notebook"][name]
    for name in ("head_start", "normalize_features", "head_units", "head_epochs")
}

# Defaults with --weights=embedded: what those weights were trained for, and a finetune
# of more layers at a larger rate than ImageNet weights bear. Batch norm is trained,
# because with stored statistics that rate diverges.
EMBEDDED: Mapping[str, object] = {
    "backbone": "MobileNet",
    "backbone_args": {"alpha": 0.25},
    "image_size": 128,
    "freeze_layers": 40,
    "finetune_lr": 0.05,
    "finetune_batch_norm": "trained",
}
