"""Turns the logits and the embedding of an image into a reply that can be trusted.

postprocessing.py   the constants of a reply, and the functions that apply them
calibration.py      the temperature of the probabilities
prediction_sets.py  the classes that hold the true one with a stated frequency
unknown.py          how far an image is from the training images

The scorer of unknown.py is fitted on training images, everything else on validation.
"""
