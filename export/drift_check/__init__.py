"""Compares new photographs with those that a version was validated on.

In the order of the work:

image_measures.py: measures brightness, contrast, saturation, sharpness; computes a hash
answers.py: asks a model for embeddings and probabilities of images
reference.py: makes, writes and reads assets.extra/reference.npz
asking.py: opens the model to ask: a version in this process, or a server
photographs.py: reads new photographs and asks for their answers
two_sample.py: tests whether two samples differ
effects.py: measures how much they differ, with intervals
unusual.py: finds the photographs farthest from the reference
comparison.py: makes the content of drift.json from all of these
sentences.py: describes the result in words
page.py: renders drift.html, from templates/
"""
