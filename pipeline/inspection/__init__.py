"""Opens every image once: checks it, measures it and hashes it.

inspect_images.py: inspects all images
image_report.py: inspects one image; the result is its ImageReport
thumbnail.py: makes the small pictures of HTML pages
formats.py: the formats that are understood and the largest size
opening.py: opens an image, also HEIF and JPEG XL
jpeg_xl.py: reads the header of a JPEG XL
heif_boxes.py: tells whether a HEIF or an AVIF may be without loss
header_checks.py: judges an image before it is decoded
gif.py: counts the pixels that decoding a GIF allocates
reencoding.py: decides which images are re-encoded, and re-encodes them
transparency.py: puts transparent images on a background
colour_profiles.py: converts to sRGB where a profile makes a visible difference
sixteen_bits.py: reduces images of 16 bits to the upper 8 of the bits that are used
jpeg.py: decodes an image for hashing, most JPEG files without TensorFlow
perceptual_hash.py: computes a hash of which near duplicates share most bits
quality.py: measures how light, how rich in contrast and how sharp an image is
"""
