"""Computes features of the frozen prefix of the smallest classifier."""

import pathlib

from fakes.models import one_device_runtime

SIZES = {"image_size": 32, "batch_size": 8}
FROZEN_LAYERS = 60


def make_cache(directory, **changes):
    """Makes a FeatureCache with room for a gigabyte."""
    from trainer.features.cache_dir import FeatureCache

    fields = {"max_bytes": 10**9, "fingerprint": {"data": 1}}
    return FeatureCache(pathlib.Path(directory), **fields | changes)


def compute_features(
    cache, classifier, records, *, frozen_prefixes=None, folded=False, **options
):
    """Calls cache_features for one plain view of the training split, unless told."""
    from trainer.features.cache import cache_features
    from trainer.features.extraction import PrefixExtractor, View
    from trainer.models.frozen_prefix import find_frozen_prefix

    extractor = PrefixExtractor(
        one_device_runtime(),
        classifier,
        frozen_prefixes or [find_frozen_prefix(classifier)],
        folded,
    )
    defaults = {"split": "train", "views": [View()], **SIZES}
    return cache_features(extractor, cache, records, **defaults | options)
