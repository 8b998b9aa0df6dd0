"""Decides which example has which place in an epoch."""

from collections.abc import Callable

import tensorflow as tf

from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import shard_positions

# Examples are shuffled within windows of between one and two times this many encoded
# bytes.
WINDOW_BYTES = 2**28


def num_batches(count: int, batch_size: int) -> int:
    """Returns the number of batches that hold `count` examples, the last one partly."""
    return -(-count // batch_size)


def mix_seed(seed: int, epoch: int) -> int:
    """Derives a seed for an epoch; neighbouring seeds and epochs get different ones."""
    return (seed * 1_000_003 + epoch) % 2**31


def is_in_shard(
    input_context: tf.distribute.InputContext,
) -> Callable[[dict], tf.Tensor]:
    """Returns a function that tells whether an example is in this pipeline's shard."""
    return lambda example: (
        example["position"] % input_context.num_input_pipelines
        == input_context.input_pipeline_id
    )


def read_shard(
    examples: tf.data.Dataset,
    records: Records,
    batch_size: int,
    input_context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """Reads one shard in stored order, filled up to whole global batches.

    Empty places of the last batch are filled with the first example of the same column,
    so that batch norm statistics do not depend on the number of workers, unless there
    are fewer examples than a batch has places.
    """
    rows = batch_size // input_context.num_input_pipelines
    num_examples = len(shard_positions(input_context, records.count))
    num_fillers = num_batches(records.count, batch_size) * rows - num_examples
    if input_context.num_input_pipelines > 1 and not records.features:
        examples = examples.filter(is_in_shard(input_context))
    if not num_examples:  # A split of very few examples can leave a shard empty.
        return records.dataset.repeat().take(num_fillers)
    fillers = examples.repeat().skip(num_examples % rows).take(num_fillers)
    return examples.concatenate(fillers)


def shuffle(
    records: Records,
    *,
    batch_size: int,
    epoch: int,
    seed: int,
    input_context: tf.distribute.InputContext,
) -> tuple[tf.data.Dataset, Callable[..., dict]]:
    """Shuffles a shard, one epoch after another.

    The stored order is cut into global batches, and these into windows that fit in
    memory. In a window each column of the batches (one example of each batch) is
    shuffled by itself. So a pipeline trains only the examples of its shard, and still a
    global batch does not depend on the number of pipelines. The fillers of the last
    batch are spread over its window.

    Returns:
      Endless elements in the order of the epochs; and a function from an element to an
      example with "weight" and "view".
    """
    rows = batch_size // input_context.num_input_pipelines
    num_examples = len(shard_positions(input_context, records.count))
    steps = num_batches(records.count, batch_size)
    window_steps = _size_window(
        steps, least=WINDOW_BYTES // (records.mean_bytes * batch_size)
    )
    num_windows = -(-steps // window_steps)
    num_views = max(1, len(records.features))

    @tf.autograph.experimental.do_not_convert
    def order_window(number, window):
        current_epoch, number = epoch + number // num_windows, number % num_windows
        num_steps = tf.shape(window["label"])[0] // rows
        drawn = tf.random.stateless_uniform(
            [batch_size, num_steps], tf.stack([mix_seed(seed, current_epoch), number])
        )
        columns = tf.argsort(
            drawn[input_context.input_pipeline_id :: input_context.num_input_pipelines]
        )
        indices = tf.reshape(tf.transpose(columns) * rows + tf.range(rows), [-1])
        read_before = number * window_steps * rows
        is_example = read_before + tf.cast(indices, tf.int64) < num_examples
        weights = tf.cast(is_example, tf.float32)
        with_view = {**window, "view": (current_epoch - 1) % num_views}
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices((indices, weights)),
            tf.data.Dataset.from_tensors(with_view).repeat(),
        )

    def to_example(place, window):
        index, weight = place
        view = window.pop("view")
        example = {name: part[index] for name, part in window.items()}
        return {**example, "weight": weight, "view": view}

    examples = records.dataset if records.uncached is None else records.uncached
    windows = read_shard(examples, records, batch_size, input_context)
    windows = windows.batch(window_steps * rows)
    if records.uncached is not None:
        # The windows of one shard stay in memory, as they are put together.
        windows = windows.cache()
    return windows.repeat().enumerate().prefetch(1).flat_map(order_window), to_example


def _size_window(steps: int, least: int) -> int:
    """Returns a number of steps for which the last window is as full as possible.

    It is between `least` and 2 * `least` + 1, or all steps if they fit. A window has at
    least three steps: one of a single step would not be shuffled.
    """
    least = max(3, least)
    if steps <= 2 * least + 1:
        return steps
    return max(
        range(least, 2 * least + 2), key=lambda size: ((steps - 1) % size + 1, size)
    )
