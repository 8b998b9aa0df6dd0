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
