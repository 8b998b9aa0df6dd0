"""Decides from the image reports which images are used and which belong together.

duplicates.py: finds pairs of images with close hashes, and groups of such pairs
decide.py: decides what is used, and returns an Audit
usable_classes.py: checks that no class is left without images
audit_json.py: the content of audit.json, and its version number
audit_report.py: the lines that the command prints
audit_page.py: the page audit.html
"""
