import numpy as np

from trainer.evaluation.advice import (
    advise,
    describe_result,
    name_never_predicted,
)
from trainer.evaluation.metrics import compute_metrics

CLASSES = ("daisy", "rose", "tulip")


def _metrics(confusion):
    """The metrics of predictions with this confusion matrix."""
    labels, predicted = [], []
    for label, row in enumerate(confusion):
        for prediction, count in enumerate(row):
            labels += [label] * count
            predicted += [prediction] * count
    logits = 5 * np.eye(len(confusion), dtype=np.float32)[predicted]
    return compute_metrics(logits, np.array(labels), CLASSES)


def test_the_result_is_a_sentence_with_its_interval():
    sentence = describe_result(_metrics([[30, 0, 0], [0, 27, 3], [0, 0, 30]]))
    assert sentence == (
        "The model classifies 96.7% of 90 test images correctly (95 % interval: 90.7% "
        "to 98.9%)."
    )


def test_classes_that_are_never_predicted_are_named():
    assert name_never_predicted(_metrics([[9, 1, 0], [0, 9, 0], [0, 3, 0]])) == (
        "No test image was predicted as 'tulip': check the labels there, or add "
        "photographs."
    )
    assert name_never_predicted(_metrics([[9, 1, 0], [0, 9, 0], [0, 3, 1]])) is None


def test_the_most_frequent_mistake_is_named():
    advice = advise(
        _metrics([[290, 5, 5], [0, 280, 20], [5, 5, 290]]), CLASSES, weights="imagenet"
    )
    assert "'rose' taken for 'tulip', 20 of 300" in advice
    assert "wide" not in advice
    fewest = _metrics([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert advise(fewest, CLASSES, weights="random") == (
        "The test images are too few for advice: add photographs."
    )
    few = _metrics([[9, 1, 0], [0, 7, 3], [0, 0, 10]])
    assert "has few images" in advise(few, CLASSES, weights="imagenet")


def test_chance_points_at_the_labels():
    chance = _metrics([[10, 5, 5], [20, 10, 10], [5, 5, 10]])
    advice = advise(chance, CLASSES, weights="imagenet")
    assert (
        "not clearly better than to answer 'rose' always, which is right for 50.0%"
        in (advice)
    )
    assert "labels" in advice


def test_random_weights_are_the_first_thing_to_change():
    good = _metrics([[30, 0, 0], [0, 27, 3], [0, 0, 30]])
    assert "--weights=imagenet" in advise(good, CLASSES, weights="random")
    different = _metrics([[29, 1, 0], [0, 29, 1], [0, 0, 30]])
    assert "No two of its 2 mistakes" in advise(different, CLASSES, weights="auto")
    single = _metrics([[30, 0, 0], [0, 29, 1], [0, 0, 30]])
    sentence = advise(single, CLASSES, weights="auto")
    assert sentence == f"Its only mistake: '{CLASSES[1]}' taken for '{CLASSES[2]}'."
    perfect = _metrics([[30, 0, 0], [0, 30, 0], [0, 0, 30]])
    assert "no mistake" in advise(perfect, CLASSES, weights="auto")
