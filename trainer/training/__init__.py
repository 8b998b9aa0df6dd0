"""Trains the regimes of a run and saves what is needed to continue it.

In the order of the work:

    regimes.py      from one regime to the next
    epoch.py        one epoch: steps, validation, checkpoint, a line of metrics.jsonl
    batch_reader.py the batches of a regime, pass after pass
    budget.py       --minutes: the steps that a regime has time for
    validation.py   figures of an epoch, and of the candidates for the final weights
    regime_run.py   what the epochs of one regime need
    loop.py         calls of a few steps each, agreed between the workers
    input_advice.py what to change if training waits for its input
    step.py         one training step
    losses.py       the loss of each example, and its weight
    optimizer.py    SGD, learning rate schedules, loss scaling
    position.py     how far a run has come
    checkpoints.py  position and variables as one file
    run_config.py   config.json, and whether a run can continue with other flags
    run_dir.py      metrics.jsonl, best weights, lock and cleaning of a run directory
    tensorboard.py  figures and profiles for TensorBoard
    progress.py     what a run prints
"""
