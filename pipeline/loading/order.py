"""From prepared data to batches: make_train_dataset(), make_eval_dataset()."""

from collections.abc import Callable

import tensorflow as tf

from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import shard_positions

# Examples are shuffled within windows of this to twice as many encoded bytes.
WINDOW_BYTES = 2**28


def num_batches(count: int, batch_size: int) -> int:
    """Batches that hold every example once, the last partial one included."""
    return -(-count // batch_size)


def mix_seed(seed: int, epoch: int) -> int:
    """A seed per epoch that no neighbouring seed or epoch shares."""
    return (seed * 1_000_003 + epoch) % 2**31


def is_in(input_context: tf.distribute.InputContext) -> Callable[[dict], tf.Tensor]:
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
    """One pipeline's examples in stored order, filled up to whole global batches.

    In each column of the last batch that has none, the column's first one stands: so
    what trained batch norm sees does not depend on the number of pipelines either,
    unless there are fewer examples than a batch has.
    """
    rows = batch_size // input_context.num_input_pipelines
    ours = len(shard_positions(input_context, records.count))
    fillers = num_batches(records.count, batch_size) * rows - ours
    if input_context.num_input_pipelines > 1 and not records.features:
        examples = examples.filter(is_in(input_context))
    if not ours:  # of very few examples a pipeline may have none
        return records.dataset.repeat().take(fillers)
    return examples.concatenate(examples.repeat().skip(ours % rows).take(fillers))


def shuffle(
    records: Records,
    *,
    batch_size: int,
    epoch: int,
    seed: int,
    input_context: tf.distribute.InputContext,
) -> tuple[tf.data.Dataset, Callable[..., dict]]:
    """Endless elements in the epochs' orders, and what makes an example of one.

    The stored order is cut into global batches, and these into windows that fit in
    memory. In a window each column of the batches (one example in each) is shuffled by
    itself. So a pipeline trains no examples but its shard, and still a batch does not
    depend on how many pipelines there are. The fillers of the last batch are spread
    over its window.
    """
    rows = batch_size // input_context.num_input_pipelines
    ours = len(shard_positions(input_context, records.count))
    steps = num_batches(records.count, batch_size)
    steps_at_once = _size_windows(
        steps, least=WINDOW_BYTES // (records.mean_bytes * batch_size)
    )
    num_windows = -(-steps // steps_at_once)
    num_views = max(1, len(records.features))

    def order(number, window):
        now, number = epoch + number // num_windows, number % num_windows
        num_steps = tf.shape(window["label"])[0] // rows
        drawn = tf.random.stateless_uniform(
            [batch_size, num_steps], tf.stack([mix_seed(seed, now), number])
        )
        columns = tf.argsort(
            drawn[input_context.input_pipeline_id :: input_context.num_input_pipelines]
        )
        indices = tf.reshape(tf.transpose(columns) * rows + tf.range(rows), [-1])
        read_before = number * steps_at_once * rows
        weights = tf.cast(read_before + tf.cast(indices, tf.int64) < ours, tf.float32)
        here = {**window, "view": (now - 1) % num_views}
        return tf.data.Dataset.zip(
            tf.data.Dataset.from_tensor_slices((indices, weights)),
            tf.data.Dataset.from_tensors(here).repeat(),
        )

    def select(drawn, window):
        index, weight = drawn
        view = window.pop("view")
        example = {name: part[index] for name, part in window.items()}
        return {**example, "weight": weight, "view": view}

    examples = records.dataset if records.unkept is None else records.unkept
    windows = read_shard(examples, records, batch_size, input_context)
    windows = windows.batch(steps_at_once * rows)
    if records.unkept is not None:  # keeps what is put together, and of a share alone
        windows = windows.cache()
    return windows.repeat().enumerate().prefetch(1).flat_map(order), select


def _size_windows(steps: int, least: int) -> int:
    """Of so many to about twice as many steps, that the last one is not much shorter.

    In one of a single step nothing would be shuffled.
    """
    least = max(3, least)
    if steps <= 2 * least + 1:
        return steps
    return max(
        range(least, 2 * least + 2), key=lambda size: ((steps - 1) % size + 1, size)
    )
