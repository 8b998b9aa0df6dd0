"""From the best weights to a model that TensorFlow Serving runs."""
