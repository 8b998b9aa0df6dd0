import pytest

from trainer.config.class_balance import make_balance, rank


@pytest.mark.parametrize(
    ("class_weights", "counts", "weights", "chosen_by"),
    [
        ("none", [30, 10], (), "balanced_accuracy"),
        ("auto", [30, 10], (2 / 3, 2.0), "balanced_accuracy"),
        ("balanced", [30, 10], (2 / 3, 2.0), "balanced_accuracy"),
        ("auto", [19, 10], (), "accuracy"),
        ("balanced", [15, 10, 5], (2 / 3, 1.0, 2.0), "balanced_accuracy"),
        ("balanced", [15, 15], (1.0, 1.0), "accuracy"),
    ],
)
def test_unequal_classes_get_weights_and_balanced_accuracy(
    class_weights, counts, weights, chosen_by
):
    balance = make_balance(class_weights, counts)
    assert balance.weights == pytest.approx(weights)
    assert balance.chosen_by == chosen_by
    assert balance.imbalance == max(counts) / min(counts)


def test_the_figure_that_fits_orders_weights_and_then_the_loss():
    known = {"val_accuracy": 0.9, "val_balanced_accuracy": 0.5, "val_loss": 0.4}
    fair = {"val_accuracy": 0.8, "val_balanced_accuracy": 0.7, "val_loss": 0.5}
    assert rank(known, "accuracy") > rank(fair, "accuracy")
    assert rank(known, "balanced_accuracy") < rank(fair, "balanced_accuracy")
    sharper = fair | {"val_loss": 0.3}
    assert rank(sharper, "balanced_accuracy") > rank(fair, "balanced_accuracy")
    # A line of an earlier version.
    del known["val_balanced_accuracy"]
    assert rank(known, "balanced_accuracy") == (0.9, -0.4)
