"""Holds the embedded weights and the way to train them again.

mobilenet_025.weights.h5: MobileNet with alpha=0.25, trained on drawn things.
pretrain.py: the command that trains them.
pretraining.py: the training.
drawn_things.py: the kinds of things.
drawn_plants.py, drawn_objects.py, drawn_shapes.py: how each of them is drawn.
"""

import os

EMBEDDED_WEIGHTS = os.path.join(os.path.dirname(__file__), "mobilenet_025.weights.h5")
