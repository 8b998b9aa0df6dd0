"""Builds classifiers and decides which of their layers train.

backbones.py           finds and builds a backbone, loads its weights
classifier.py          Classifier, build_classifier(), compute_logits()
freezing.py            freezes layers, sets the mode of batch norm
boundary.py            the number of frozen layers where no flag sets it
frozen_prefix.py       splits a classifier after its last frozen tensor
batch_norm_folding.py  folds batch norms into convolutions, for inference
batch_norm_fusion.py   fuses stored statistics into convolutions, for training
"""
