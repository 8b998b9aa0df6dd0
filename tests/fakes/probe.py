"""A script that runs an export without Keras and without this project."""

PROBE = """
import json, sys
sys.modules["keras"] = None  # TensorFlow would import it by itself where it is there
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
images = [open(path, "rb").read() for path in sys.argv[2:]]
found = signature(image_bytes=tf.constant(images))
print(json.dumps({
    "forbidden": sorted({"pipeline", "trainer", "export"} & set(sys.modules)),
    "probabilities": found["probabilities"].numpy().tolist(),
    "class_id": found["class_id"].numpy().tolist(),
    "label": [label.decode() for label in found["label"].numpy()],
}))
"""
