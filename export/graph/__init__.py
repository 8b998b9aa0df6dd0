"""Builds the graph that a server runs, from image bytes to probabilities.

image_headers.py: counts the pixels of an image by its header, before it is decoded.
safe_decoding.py: decodes a batch so that a bad image affects only its own row.
signatures.py: declares the signatures of an export and builds them.
"""
