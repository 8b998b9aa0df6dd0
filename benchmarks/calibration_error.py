"""How often the interval of the calibration error holds the true one.

`python benchmarks/calibration_error.py`. Confidences are those of softmax on five
random logits. The probability that an answer is right is a function of the confidence,
so that the true calibration error is known. Beside the interval of
trainer.evaluation.calibration_error stand the error that is measured in bins, and the
percentile interval of the bootstrap, which is the plain alternative.
"""

import argparse

import numpy as np
import tables
from scipy import special, stats

from trainer.evaluation import calibration_error

COUNTS = (30, 100, 1000)
NUM_RESAMPLES = 500
LOGIT_DEVIATION = 2.0


def change_odds(confidence, temperature):
    return special.expit(special.logit(confidence) / temperature)


def miss_a_band(confidence):
    is_inside = (confidence > 0.6) & (confidence < 0.7)
    return np.where(is_inside, confidence - 0.3, confidence)


MODELS = {
    "perfect": lambda confidence: confidence,
    "too sure, temperature 1.5": lambda confidence: change_odds(confidence, 1.5),
    "too sure, temperature 3": lambda confidence: change_odds(confidence, 3),
    "too modest, temperature 0.7": lambda confidence: change_odds(confidence, 0.7),
    "too sure by 0.05": lambda confidence: np.maximum(confidence - 0.05, 0),
    "wrong between 0.6 and 0.7 only": miss_a_band,
}


def draw_confidence(rng, count):
    logits = LOGIT_DEVIATION * rng.normal(size=(count, 5))
    return special.softmax(logits, axis=1).max(axis=1).clip(0, 1 - 1e-6)


def measure_in_bins(confidence, is_correct):
    """Returns the errors of samples, [R]; both arrays: [R, N], N a multiple of 10."""
    count = confidence.shape[1]
    num_bins = min(10, count // 10)
    order = np.argsort(confidence, axis=1)
    gaps = np.take_along_axis(is_correct - confidence, order, axis=1)
    return np.abs(gaps.reshape(-1, num_bins, count // num_bins).mean(axis=2)).mean(1)


def bootstrap(confidence, is_correct):
    """Returns the error in bins, and its percentile interval."""
    count = len(confidence)
    samples = np.random.default_rng(0).integers(0, count, (NUM_RESAMPLES, count))
    (error,) = measure_in_bins(confidence[np.newaxis], is_correct[np.newaxis])
    drawn = measure_in_bins(confidence[samples], is_correct[samples])
    return error, *np.quantile(drawn, [0.025, 0.975])


def draw_estimates(model, count, num_draws):
    """Returns method -> (value, low, high) of each draw."""
    rng = np.random.default_rng(count)
    estimates = {"inverted": [], "bootstrap": []}
    for _ in range(num_draws):
        confidence = draw_confidence(rng, count)
        is_correct = rng.random(count) < model(confidence)
        found = calibration_error.estimate_calibration_error(confidence, is_correct)
        estimates["inverted"].append(tuple(found))
        estimates["bootstrap"].append(bootstrap(confidence, is_correct))
    return {method: np.array(rows) for method, rows in estimates.items()}


def share(is_true):
    ends = stats.binomtest(int(is_true.sum()), len(is_true)).proportion_ci(
        method="wilson"
    )
    return f"{is_true.mean():.3f} [{ends.low:.3f}, {ends.high:.3f}]"


def make_row(name, count, true, estimates):
    def covers(method):
        _, lows, highs = estimates[method].T
        return (lows <= true + 1e-9) & (true <= highs + 1e-9)

    value, low, high = estimates["inverted"].T
    plain, plain_low, plain_high = estimates["bootstrap"].T
    outside = (plain < plain_low) | (plain > plain_high)
    return [
        name,
        str(count),
        f"{true:.3f}",
        f"{np.median(value):.3f}",
        share(covers("inverted")),
        f"{np.mean(high - low):.2f}",
        f"{np.median(plain):.3f}",
        share(covers("bootstrap")),
        f"{outside.mean():.2f}",
    ]


def main(num_draws):
    header = tables.describe_machine("scipy")
    sample = draw_confidence(np.random.default_rng(0), 200_000)
    rows, samples = [], {}
    for name, model in MODELS.items():
        true = float(np.abs(model(sample) - sample).mean())
        for count in COUNTS:
            estimates = draw_estimates(model, count, num_draws)
            rows.append(make_row(name, count, true, estimates))
            print(rows[-1], flush=True)
            samples[f"{name}, {count}"] = {
                method: {
                    "all_below": int((drawn[:, 2] < true - 1e-9).sum()),
                    "all_above": int((drawn[:, 1] > true + 1e-9).sum()),
                }
                for method, drawn in estimates.items()
            }
    tables.save(
        "calibration_error",
        about=(
            f"{num_draws} draws each; medians of the estimates; share of the 95 % "
            "intervals that hold the true error, with its own 95 % interval (Wilson); "
            "mean width. Outside: share of draws whose error in bins is not in its own "
            f"bootstrap interval ({NUM_RESAMPLES} resamples)."
        ),
        header=header,
        columns=[
            *("model", "images", "true error", "estimate", "covered", "width"),
            *("error in bins", "covered by the bootstrap", "outside"),
        ],
        rows=rows,
        samples=samples,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=200)
    main(parser.parse_args().draws)
