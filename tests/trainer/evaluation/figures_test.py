import io

import numpy as np
import pytest

from trainer.evaluation.figures import draw_confusion, draw_curves, draw_reliability


def test_class_names_are_neither_formulas_nor_control_characters():
    """Matplotlib would end with an error for the first, and warn of the second."""
    figure = draw_confusion(np.eye(3, dtype=int), ["$\\frac$", "a_b$c$", "\x1b[31m"])
    figure.savefig(io.BytesIO())
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == [
            "$\\frac$",
            "a_b$c$",
            r"\x1b[31m",
        ]


@pytest.mark.parametrize(("lowest", "first"), [(1.0, 0.9), (0.3, 0.2)])
def test_the_axis_of_accuracies_ends_at_1(lowest, first):
    line = dict.fromkeys(("train_loss", "val_loss"), 0.1) | {"regime": "head"}
    history: list = [
        line | {"train_accuracy": accuracy, "val_accuracy": accuracy}
        for accuracy in (lowest, 1.0)
    ]
    figure = draw_curves(history)
    figure.savefig(io.BytesIO())
    low, high = figure.axes[1].get_ylim()
    assert first <= low < lowest
    assert high > 1
    assert max(tick for tick in figure.axes[1].get_yticks() if tick <= high) == 1


def test_the_legend_of_the_reliability_hides_no_interval():
    one_bin: list = [
        {"confidence": 0.5, "accuracy": 0.6, "accuracy_ci95": [0.2, 0.95], "count": 5}
    ]
    figure = draw_reliability(one_bin)
    figure.savefig(io.BytesIO())
    [axes], [legend] = figure.axes, figure.legends
    assert axes.get_legend() is None
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_of_many_classes_those_with_most_mistakes_are_drawn():
    confusion = 5 * np.eye(200, dtype=int)
    # Class 7 is taken for 150, and 32 classes for the one after them.
    confusion[7, 150] = 9
    for k in range(40, 104, 2):
        confusion[k, k + 1] = 1
    figure = draw_confusion(confusion, [f"class {k}" for k in range(200)])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(names) == 20
    assert {"class 7", "class 150"} < set(names)
    assert {int(name.split()[1]) for name in names} - {7, 150} <= set(range(40, 104))
    assert max(figure.get_size_inches()) <= 9
    # The share is of all images of class 7, 5 of which are right.
    fractions = figure.axes[0].images[0].get_array()
    assert fractions[names.index("class 7"), names.index("class 150")] == 9 / 14
