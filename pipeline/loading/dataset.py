"""From prepared data to batches: make_train_dataset(), make_eval_dataset()."""

import tensorflow as tf

from pipeline.loading.batches import make_batches
from pipeline.loading.data_service import batches_from_service
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
    """Epoch after epoch: each holds every example once, in an order of (seed, epoch).

    It does not end, so that no epoch but the first waits for its pipeline.

    Args:
      epoch: the first one, counted from 1.
      first_step: leave out the global batches of it before this one.
      data_service: address of a tf.data service whose workers read and decode, each
        some of the shards; they must see the files under the same path. Then the order
        follows from which worker is quicker, first_step must be 0, and the data set
        ends with its epoch.

    Returns:
      Batches for one replica after another, each
      {"image": float32 [b, image_size, image_size, 3], range [0, 255], or rows of the
       records' features, whose views the epochs take in turn;
       "label": int32 [b], "weight": float32 [b], "position": int32 [b]}
      with b = batch_size / input_context.num_replicas_in_sync.
      Whole global batches are filled up with examples of weight 0, so that every shape
      is static (XLA compiles once) and every replica takes part in every step. No step
      is without an example that counts.
    """
    if data_service is not None:
        return batches_from_service(
            data_service,
            records,
            image_size=image_size,
            batch_size=batch_size,
            per_replica_batch_size=input_context.get_per_replica_batch_size(batch_size),
            seed=mix_seed(seed, epoch),
            input_context=input_context,
        )
    ordered, select = shuffle(
        records,
        batch_size=batch_size,
        epoch=epoch,
        seed=seed,
        input_context=input_context,
    )
    return make_batches(
        ordered.skip(first_step * batch_size // input_context.num_input_pipelines),
        select,
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
    """Every example exactly once, in stored order, the fillers last; see
    make_train_dataset."""
    ours = len(shard_positions(input_context, records.count))

    def select(row, example):
        weight = tf.cast(row < ours, tf.float32)
        return {**example, "weight": weight, "view": tf.constant(0, tf.int64)}

    return make_batches(
        read_shard(records.dataset, records, batch_size, input_context).enumerate(),
        select,
        records,
        image_size=image_size,
        per_replica_batch_size=input_context.get_per_replica_batch_size(batch_size),
        input_context=input_context,
    )
