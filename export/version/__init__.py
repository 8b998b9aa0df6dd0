"""Makes one version of an export: a directory that a server loads.

folding.py: folds batch norm into the convolutions and compares the probabilities.
reduced_precision.py: lowers the precision and measures what it costs.
write.py: writes the SavedModel.
warmup.py: writes the requests that a server answers while it loads the version.
model_card.py: writes the labels and the model card.
card_types.py: the content of the model card.
card_page.py: the model card as a page.
reference.py: adds what export.drift compares new photographs with.
publish.py: renames the directory to the next version, removes old ones, rolls back.
server_files.py: renders the files that start servers, from templates/.
"""
