"""Defines the recipes: named defaults for the flags of a run.

A flag on the command line overrides the recipe. `config.json` holds every value.
"""

from collections.abc import Mapping

# The defaults of the flags themselves are the recipe of the notebook.
RECIPES: Mapping[str, Mapping[str, object]] = {
    "notebook": {},
    "best": {
        "augment": "light",
        "batch_size": 32,
        "cached_views": 4,
        "head_start": "logistic",
        "head_units": 0,
        "head_epochs": 0,
        "finetune_epochs": 5,
        "finetune_steps": 300,
        "finetune_lr": 0.001,
        "finetune_batch_norm": "frozen",
        "finetune_result": "average",
        "label_smoothing": 0.1,
        "schedule": "warmup_cosine",
    },
}
