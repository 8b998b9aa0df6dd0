"""Changes training images at random, on the device, one batch at a time.

    presets.py      how far each operation of a preset may go; imports no TensorFlow
    augmenter.py    builds the function that augments a batch
    affine.py       shear, zoom, rotation, translation and mirror as one resampling
    color.py        contrast, brightness, saturation and hue as one matrix
    mixing.py       mixup and cutmix
    counter_rng.py  one stream of random numbers for each image

Nothing here has state: every result is a function of its inputs and its seed. So a run
that continues repeats nothing and loses nothing, and a cached view can be computed
again. The augmentation stays outside the model: a keras-cv layer augments whether or
not it is training, so inside the model it would also augment in the evaluation and in
the exported graph.
"""
