"""Computes the outputs of the frozen layers once per image and caches them.

In the order of the work:

    plan.py        decides which regime trains on images and which on cached features
    extraction.py  runs images, augmented or not, through the frozen layers
    cache.py       finds the features on disk, or computes and writes them
    view_files.py  computes one view and writes its files
    cache_dir.py   the directory of the files: lock, limits on disk and memory
    array_file.py  one array in a file with a checksum
"""
