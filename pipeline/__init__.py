"""From a folder of photographs to batches on the device.

The way of one photograph:

1. listed by its relative name: sources/listing.py
2. inspected, that is opened, checked and hashed once: inspection/inspect_images.py
3. grouped with its near duplicates, and used or left out: audit/decide.py
4. given the split of its group: splits/
5. written to TFRecord shards as a labelled example: records.py
6. loaded in the order of an epoch: loading/dataset.py, loading/order.py
7. decoded and resized: decoding.py
8. augmented on the device: augmentation/augmenter.py

main.py is the command. prepare.py runs steps 1 to 5 in this order.
stored_examples.py reads a few stored examples without TensorFlow. The folder system/
holds what does not depend on images. Steps 1 to 4 do not import TensorFlow before an
image needs it, because importing it takes seconds.
"""
