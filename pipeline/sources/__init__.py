"""Lists the images of a source; TensorFlow is imported only for tfds:.

images.py: SourceImage and Listing, the result of every kind of source
listing.py: chooses the kind of source and lists its images
folders.py: a folder of class folders, or a .zip of one
csv_file.py: csv:FILE
corrections.py: corrected labels, for --corrections
hubs.py: kaggle:OWNER/NAME and tfds:NAME
drawn_flowers.py: sample, five kinds of drawn flowers
drawn_petals.py: the parts of these flowers
drawn_scene.py: what is around these flowers
"""
