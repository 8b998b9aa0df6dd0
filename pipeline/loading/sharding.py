"""Which examples of a split one input pipeline (one worker process) reads.

Worker w of N reads every N-th example of the stored order, starting at the w-th. A
global batch then consists of the same examples however many workers there are, so a
run does not depend on how it is spread.
"""

import tensorflow as tf

ONE_PIPELINE = tf.distribute.InputContext()


def shard_positions(input_context: tf.distribute.InputContext, count: int) -> range:
    """Returns the positions that this pipeline reads of a split of `count` examples."""
    return range(
        input_context.input_pipeline_id, count, input_context.num_input_pipelines
    )
