"""Records hashes of what training computes, to prove that a refactoring changes no bit.

`python benchmarks/equal_bits.py --out=OUT [--tree=CHECKOUT]` runs the commands of a
checkout, by default of the tree that holds this file, and writes OUT/equal_bits.json.
The runs are deterministic: one process and two workers on the embedded sample, and with
--photographs and --weights also MobileNet (alpha 0.25) on precomputed features of two
views of each photograph. The JSON holds the SHA-256

- of the best weights of each regime: of the names and bytes of all arrays, not of the
  HDF5 file, which also holds times,
- of the prepared examples of each split, in stored order,
- of each output that a signature of the export returns for 20 images.

Two files are comparable if they come from one machine with the same packages. This file
imports nothing of the project, so that it can run any commit of it.
"""

import argparse
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_EXPORT_IMAGES = 20
PIXELS_SIDE = 96
SAMPLE_FLAGS = (
    *("--weights=random", "--deterministic", "--precision=float32"),
    *("--image_size=64", "--batch_size=32", "--head_epochs=2", "--finetune_epochs=2"),
    *("--backbone=MobileNet", "--backbone_args=alpha=0.25", "--freeze_layers=60"),
)
MOBILENET_FLAGS = (
    *("--backbone=MobileNet", "--backbone_args=alpha=0.25", "--freeze_layers=60"),
    *("--deterministic", "--cached_views=2", "--image_size=160"),
    *("--head_epochs=3", "--finetune_epochs=3"),
)


def start_command(tree, log_path, *arguments, tf_config=None):
    """Starts `python -m ARGUMENTS` in a checkout; its output is added to the log."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if tf_config is not None:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    with open(log_path, "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=tree,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait(processes, log_path):
    """Waits for processes and ends this one if any of them failed."""
    statuses = [process.wait() for process in processes]
    if any(statuses):
        sys.exit(f"equal_bits: a command failed with {statuses}; see {log_path}")


def choose_ports(count):
    """Returns ports that are free now."""
    listeners = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def train_two_workers(tree, log_path, flags):
    workers = [f"localhost:{port}" for port in choose_ports(2)]
    cluster = {"worker": workers}
    processes = [
        start_command(
            tree,
            log_path,
            *("trainer.main", *flags),
            tf_config={"cluster": cluster, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    wait(processes, log_path)


def hash_weights(model_dir):
    """Returns the name of each best-weights file -> SHA-256 of its sorted arrays."""
    import h5py
    import numpy as np

    hashes = {}
    for path in sorted((model_dir / "checkpoints").glob("*.best.weights.h5")):
        arrays = {}

        def collect(name, item, arrays=arrays):
            if isinstance(item, h5py.Dataset):
                arrays[name] = item[()]

        with h5py.File(path) as file:
            file.visititems(collect)
        digest = hashlib.sha256()
        for name, array in sorted(arrays.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        hashes[path.name] = digest.hexdigest()
    if not hashes:
        sys.exit(f"equal_bits: no best weights. Received: {model_dir}")
    return hashes


def read_encoded_images(data_dir, split, count):
    """Returns the encoded images of the first examples of a split."""
    return [example["image"] for example in _read_examples(data_dir, split)[:count]]


def hash_examples(data_dir):
    """Returns the name of each split -> SHA-256 of its examples in stored order."""
    import tensorflow_datasets as tfds

    hashes = {}
    for split in sorted(tfds.builder_from_directory(str(data_dir)).info.splits):
        digest = hashlib.sha256()
        for example in _read_examples(data_dir, split):
            for key, value in sorted(example.items()):
                digest.update(key.encode())
                digest.update(value if isinstance(value, bytes) else value.tobytes())
        hashes[split] = digest.hexdigest()
    return hashes


def _read_examples(data_dir, split):
    import tensorflow_datasets as tfds

    dataset = tfds.builder_from_directory(str(data_dir)).as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return list(dataset.as_numpy_iterator())


def hash_export(export_dir, encoded_images):
    """Returns signature -> output -> SHA-256 of the values for the encoded images."""
    import tensorflow as tf

    version_dirs = [path for path in export_dir.iterdir() if path.name.isdigit()]
    newest = max(version_dirs, key=lambda path: int(path.name))
    model = tf.saved_model.load(str(newest))
    hashes = {}
    for name, signature in sorted(model.signatures.items()):
        ((key, spec),) = signature.structured_input_signature[1].items()
        values = _make_inputs(name, spec, encoded_images)
        hashes[name] = {
            output: _hash_tensor(tensor)
            for output, tensor in sorted(signature(**{key: values}).items())
        }
    return hashes


def _make_inputs(signature_name, spec, encoded_images):
    """Returns a batch of what a signature takes: bytes, tf.train.Example or pixels."""
    import tensorflow as tf

    if spec.dtype == tf.uint8:
        side = (PIXELS_SIDE, PIXELS_SIDE)  # the signature takes any size
        pixels = [
            tf.image.resize(tf.io.decode_image(image, 3, expand_animations=False), side)
            for image in encoded_images
        ]
        return tf.cast(tf.stack(pixels), tf.uint8)
    if signature_name == "classify":
        return tf.constant([_make_example(image) for image in encoded_images])
    return tf.constant(encoded_images)


def _make_example(encoded_image):
    """Returns a serialised tf.train.Example that holds an encoded image."""
    import tensorflow as tf

    content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded_image]))
    features = tf.train.Features(feature={"image/encoded": content})
    return tf.train.Example(features=features).SerializeToString()


def _hash_tensor(tensor):
    array = tensor.numpy()
    is_text = array.dtype == object
    content = repr(array.tolist()).encode() if is_text else array.tobytes()
    return hashlib.sha256(f"{array.shape}".encode() + content).hexdigest()


def record_run(model_dir, data_dir):
    images = read_encoded_images(data_dir, "train", NUM_EXPORT_IMAGES)
    return {
        "examples": hash_examples(data_dir),
        "weights": hash_weights(model_dir),
        "export": hash_export(model_dir / "export", images),
    }


def main(options):
    out = pathlib.Path(options.out).resolve()
    out.mkdir(parents=True)  # an old run in it would be continued, not repeated
    tree = pathlib.Path(options.tree).resolve()
    log_path = out / "log.txt"
    hashes = {}

    def prepare(source, name):
        data = out / name
        arguments = ("pipeline.main", f"--source={source}", f"--out={data}")
        wait([start_command(tree, log_path, *arguments)], log_path)
        return data

    def train(name, data, *flags):
        flags = (f"--data_dir={data}", f"--model_dir={out / name}", *flags)
        if name == "two_workers":
            train_two_workers(tree, log_path, flags)
        else:
            command = start_command(tree, log_path, "trainer.main", *flags)
            wait([command], log_path)
        hashes[name] = record_run(out / name, data)
        print(f"{name}: done", flush=True)

    sample = prepare("sample", "sample_data")
    train("sample", sample, *SAMPLE_FLAGS)
    train("two_workers", sample, *SAMPLE_FLAGS)
    if options.photographs:
        photographs = pathlib.Path(options.photographs).resolve()
        weights = pathlib.Path(options.weights).resolve()
        data = prepare(photographs, "photographs_data")
        train("photographs", data, *MOBILENET_FLAGS, f"--weights={weights}")
    path = out / "equal_bits.json"
    path.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", required=True, help="a folder that does not exist yet")
    parser.add_argument("--tree", default=ROOT, help="a checkout of any commit")
    parser.add_argument("--photographs", help="a folder with one folder for each class")
    parser.add_argument("--weights", help="weights of MobileNet, alpha 0.25, no top")
    options = parser.parse_args()
    if (options.photographs is None) != (options.weights is None):
        parser.error("--photographs and --weights belong together: give both or none")
    main(options)
