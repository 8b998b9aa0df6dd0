"""Decides from the image reports which images are used and which belong together.

duplicates.py: finds pairs of images with close hashes, and groups of such pairs
decide.py: decides what is used, and returns an Audit
doubts.py: finds photographs of doubtful quality, which are used
usable_classes.py: checks that no class is left without images
findings.py: lists all findings
audit_json.py: the content of audit.json, and the number of its format
audit_report.py: the lines that the command prints
audit_page.py: the page audit.html
audit_csv.py: the table audit.csv
"""
