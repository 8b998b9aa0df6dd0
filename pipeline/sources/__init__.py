"""Lists the images of a source; TensorFlow is imported only for tfds:.

images.py: SourceImage and Listing, the result of every kind of source
check_source.py: refuses a source that cannot be listed
listing.py: chooses the kind of source and lists its images
class_names.py: compares the names of classes as a person sees them
folders.py: a folder of class folders
walk.py: finds the files of such a folder
passed_over.py: which files are no photographs, by their names
layouts.py: which folder is the class, and which the split
twins.py: groups several files of one photograph
archives.py: a .zip or .tar of such a folder
csv_file.py: csv:FILE
tables.py: reads CSV, JSON lines and JSON lists
numbered_classes.py: the names of classes that are numbers in a table
located_files.py: files that a table names otherwise than this machine
corrections.py: corrected labels, for --corrections
hubs.py: kaggle:OWNER/NAME and tfds:NAME
drawn_flowers.py: sample, five kinds of drawn flowers
drawn_petals.py: the parts of these flowers
drawn_scene.py: the background, leaves and stems around these flowers
"""
