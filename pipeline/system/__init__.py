"""What does not depend on images: files, processes, messages, templates, versions.

files.py: writes files and directories that appear whole or not at all; locks
regular_file.py: reads a regular file within a time limit
texts.py: escapes control characters and formulas, shortens lists of names
parallel.py: calls a function for many items on all cores
own_process.py: calls a function in processes that are ended if they hang
beam.py: the same on the workers of an Apache Beam runner
console.py: progress, error messages, a silent import of TensorFlow
command_line.py: runs the main function of a command
tfrecord.py: finds and reads the records of a TFRecord file, without TensorFlow
bare_tensorflow.py: imports message classes without Python's TensorFlow
templates.py: renders Jinja templates
versions.py: the versions of this project and of its packages
"""
