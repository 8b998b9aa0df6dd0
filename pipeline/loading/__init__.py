"""Reads prepared data into batches, with tf.data.

prepared_data.py  opens a directory of prepared data
sharding.py       which examples one worker reads
order.py          which place an example has in an epoch
batches.py        decodes examples, or looks up their features, and batches them
data_service.py   the same with the workers of a tf.data service
dataset.py        make_train_dataset() and make_eval_dataset()
"""
