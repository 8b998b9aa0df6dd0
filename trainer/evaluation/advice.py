"""Describes the result of a run, and what would most likely improve it."""

from collections.abc import Sequence

import numpy as np

from pipeline.system.texts import list_some
from trainer.evaluation.metrics import Metrics

# If half of the width of the interval is larger, the advice says why it is wide.
_WIDE = 0.07
# Below this number of test images no figure says much.
_FEW = 20


def describe_result(test: Metrics) -> str:
    """Returns the accuracy on the test split as a sentence."""
    low, high = test["ci95"]
    return (
        f"The model classifies {test['accuracy']:.1%} of {test['count']} test images "
        f"correctly (95 % interval: {low:.1%} to {high:.1%})."
    )


def name_never_predicted(test: Metrics) -> str | None:
    """Returns which classes no test image was predicted as, as a sentence, or None."""
    names = [
        f"'{name}'"
        for name, figures in test["per_class"].items()
        if not figures["predicted_count"]
    ]
    if not names:
        return None
    return (
        f"No test image was predicted as {list_some(names)}: check the labels there, "
        "or add photographs."
    )


def advise(test: Metrics, classes: Sequence[str], *, weights: str) -> str:
    """Returns what would most likely improve the result, in one or two sentences.

    classes: names in the order of the labels.
    weights: value of --weights.
    """
    if test["count"] < _FEW:
        return "The test images are too few for advice: add photographs."
    confusion = np.array(test["confusion"])
    share = confusion.sum(axis=1) / confusion.sum()
    largest = int(share.argmax())
    low, high = test["ci95"]
    if low <= share[largest]:
        return (
            f"This is not clearly better than to answer '{classes[largest]}' always, "
            f"which is right for {share[largest]:.1%}: check first whether the labels "
            "are right, then --weights."
        )
    if weights == "random":
        return "Pretrained weights would help most: --weights=imagenet."
    mistakes = confusion - np.diag(np.diag(confusion))
    if not mistakes.any():
        return "It made no mistake; only more test images can show one."
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    if mistakes.sum() == 1:
        return f"Its only mistake: '{classes[true]}' taken for '{classes[predicted]}'."
    if mistakes.max() == 1:
        return (
            f"No two of its {mistakes.sum()} mistakes are of one kind: see the report."
        )
    sentence = (
        f"Most frequent mistake: '{classes[true]}' taken for '{classes[predicted]}', "
        f"{mistakes[true, predicted]} of {confusion[true].sum()}; more photographs of "
        "both, or corrected labels, help most."
    )
    if (high - low) / 2 > _WIDE:
        sentence += " The interval is wide because the test split has few images."
    return sentence
