"""A client of TensorFlow Serving or the local server, over gRPC or REST.

image_files.py: finds image files in folders and reads them as the server needs them
transports.py: sends one request over gRPC or REST
classify.py: sends images in batches, retries, and makes one row per image
"""
