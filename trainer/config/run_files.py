"""The names of the files of a run directory; docs/reference/files.md describes them."""

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "test_predictions.csv"
SUMMARY_FILE = "summary.json"

# Of config.json. Files without a number have format 1.
CONFIG_FORMAT = 2
