"""Decides which split each group of images goes to, and stores the decision.

shares.py: cuts the groups of a class into parts whose sizes follow given shares.
assign.py: assigns every image, by the source, by an earlier splits.csv or by shares.
small_classes.py: finds the classes that a split lacks, and leaves them out.
splits_csv.py: reads and writes splits.csv.
"""
