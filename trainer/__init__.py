"""Trains an image classifier: from batches to the best weights.

main.py              the command; its flags are the fields of config.TrainConfig
check_labels.py      the command that checks the labels of prepared data
train.py             train(): the whole job in order
run_setup.py         data, classifier and views of a run
compare.py           the command that compares finished runs
final_evaluation.py  summary.json and report.html from the best weights
split_outputs.py     what the best weights give for validation and test
config/              settings of a run
models/              backbone, head, frozen layers
embedded/            weights in the package, and how they were trained
distribution/        devices and workers, signals
postprocessing/      probabilities, prediction sets and unknown scores of a reply
evaluation/          evaluation of a split, metrics, report
comparison/          comparison of finished runs, compare.html
features/            outputs of the frozen layers, computed once
training/            regimes, epochs, steps, checkpoints, run directory
head_search/         --sweep, --head_folds and the solved head
label_check/         --check_labels: photographs whose label is probably wrong
recipes/             files for --flagfile
cluster/             examples for Kubernetes and Slurm

The way of one training step:

| # | what happens | file |
|---|---|---|
| 1 | each replica gets a batch | distribution/collectives.py |
| 2 | images are augmented and mixed on the device | training/step.py |
| 3 | the frozen prefix computes its output, or | models/frozen_prefix.py |
|   | the batch already holds it, precomputed | features/ |
| 4 | logits, loss and gradients | training/step.py, models/classifier.py |
| 5 | gradients are summed over replicas and applied | training/step.py |
| 6 | workers agree whether to save or to stop | training/loop.py |
| 7 | the position is saved in a checkpoint | training/epoch.py, checkpoints.py |
| 8 | validation after the epoch, metrics.jsonl | training/epoch.py |
"""
