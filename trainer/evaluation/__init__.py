"""Evaluates classifiers and reports the results.

evaluate.py       classifies every example of a split once, on all workers
metrics.py        accuracy, AUC, calibration, figures of each class
reliability.py    what probabilities, prediction sets and unknown scores are worth
epoch_metrics.py  the line of metrics.jsonl
summary.py        the content of summary.json
advice.py         the result as a sentence, and what would improve it
outcome.py        what a run prints at its end
figures.py        charts: curves, confusion matrix, calibration
photographs.py    errors with heat maps, unusual and augmented images
predictions.py    test_predictions.csv, written and read
report.py         report.html
"""
