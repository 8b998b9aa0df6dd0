"""Assigns the images of some splits to folds, near duplicates together."""

from collections.abc import Sequence

import numpy as np

from pipeline.loading import prepared_data
from pipeline.splits import shares, splits_csv
from trainer.config.train_config import TrainConfig


def assign_folds(
    config: TrainConfig, splits: Sequence[str], *, num_folds: int
) -> np.ndarray:
    """Returns the fold of each image of the splits, int [N], in stored order."""
    group_of = splits_csv.read_groups(config.data_dir)
    names = [
        name
        for split in splits
        for name in prepared_data.read_names(
            prepared_data.read_records(config.data_dir, split)
        )
    ]
    return np.array(
        [
            shares.fold_of(group_of[name], num_folds=num_folds, seed=config.seed)
            for name in names
        ]
    )
