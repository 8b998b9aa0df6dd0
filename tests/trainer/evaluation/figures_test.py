import io

import numpy as np

from trainer.evaluation.figures import draw_confusion


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
