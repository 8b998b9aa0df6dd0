"""Opens every image once: checks it, measures it and hashes it.

image_report.py: inspects all images, one ImageReport per image
formats.py: the supported formats and the largest size
thumbnail.py: makes the small pictures of HTML pages
gif.py: counts the pixels that decoding a GIF allocates
reencoding.py: decides which images are re-encoded, and re-encodes them
jpeg.py: decodes an image for hashing, most JPEG files without TensorFlow
perceptual_hash.py: the hash whose bits near duplicates share
"""
