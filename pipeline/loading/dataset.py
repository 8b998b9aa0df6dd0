"""Makes the batches of training and of evaluation."""

import tensorflow as tf

from pipeline.loading.batches import make_batches
from pipeline.loading.data_service import make_served_batches
from pipeline.loading.order import mix_seed, read_shard, shuffle
from pipeline.loading.prepared_data import Records
from pipeline.loading.sharding import ONE_PIPELINE, shard_positions


def make_train_dataset(
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    epoch: int,
    seed: int,
    first_step: int = 0,
    input_context: tf.distribute.InputContext = ONE_PIPELINE,
    data_service: str | None = None,
) -> tf.data.Dataset:
    """Makes endless batches: each epoch holds every example once, in its own order.

    The order is a function of seed and epoch. The dataset does not end with an epoch,
    so that only the first epoch waits for the pipeline to start.

    Args:
      batch_size: the global one.
      epoch: number of the first epoch, from 1.
      first_step: leave out the global batches of that epoch before this one.
      input_context: the shard of this process and the number of replicas.
      data_service: address of a tf.data service. Its workers read and decode, each some
        of the files, which they must see under the same path. The order then depends on
        which worker is faster, first_step must be 0, and after one epoch come batches
        of weight 0.

    Returns:
      Batches for one replica after another, each
      {"image": uint8 [b, image_size, image_size, 3], or rows of the records' features,
       whose views the epochs use in turn;
       "label": int32 [b], "weight": float32 [b], "position": int32 [b]}
      with b = batch_size / input_context.num_replicas_in_sync.
      The last global batch is filled up with examples of weight 0, so that every shape
      is static (XLA compiles once) and every replica takes part in every step. Each
      step has at least one example that counts.
    """
    if data_service is not None:
        return make_served_batches(
            data_service,
            records,
            image_size=image_size,
            batch_size=batch_size,
            seed=mix_seed(seed, epoch),
            input_context=input_context,
        )
    elements, to_example = shuffle(
        records,
        batch_size=batch_size,
        epoch=epoch,
        seed=seed,
        input_context=input_context,
    )
    return make_batches(
        elements.skip(first_step * batch_size // input_context.num_input_pipelines),
        to_example,
        records,
        image_size=image_size,
        per_replica_batch_size=input_context.get_per_replica_batch_size(batch_size),
        input_context=input_context,
    )


def make_eval_dataset(
    records: Records,
    *,
    image_size: int,
    batch_size: int,
    input_context: tf.distribute.InputContext = ONE_PIPELINE,
) -> tf.data.Dataset:
    """Makes batches of every example exactly once, in stored order.

    The fillers of the last batch come last; see make_train_dataset for the rest.
    """
    num_examples = len(shard_positions(input_context, records.count))

    def to_example(row, example):
        weight = tf.cast(row < num_examples, tf.float32)
        return {**example, "weight": weight, "view": tf.constant(0, tf.int64)}

    return make_batches(
        read_shard(records.dataset, records, batch_size, input_context).enumerate(),
        to_example,
        records,
        image_size=image_size,
        per_replica_batch_size=input_context.get_per_replica_batch_size(batch_size),
        input_context=input_context,
    )
