"""Evaluates classifiers and reports the results.

evaluate.py          classifies every example of a split once, on all workers
metrics.py           accuracy, AUC, calibration, figures of each class
calibration_error.py how far confidence is from accuracy, with its interval
reliability.py       how far probabilities, prediction sets, unknown scores are right
saliency.py          where a classifier looks in an image
image_properties.py  brightness, sharpness, size and colour of photographs
slices.py            the photographs on which a classifier fails more often
confidence_curve.py  the accuracy on the photographs that it is surest of
power_law.py         the error by the number of training images
learning_curve.py    whether more photographs would help
epoch_metrics.py     the line of metrics.jsonl
summary.py           the content of summary.json
advice.py            the result as a sentence, and what would improve it
outcome.py           what a run prints at its end
figures.py           charts: curves, confusion matrix, calibration
curve_figures.py     charts: accuracy by number of photographs, and by confidence
photographs.py       errors with heat maps, unusual and augmented images
predictions.py       test_predictions.csv, written and read
report.py            report.html
"""
