"""Compares finished runs on the same test photographs, without TensorFlow.

write.py         compares the runs and writes the files
run_results.py   reads a run directory
alignment.py     checks that the photographs, classes and labels are the same
comparison.py    the comparison of two runs
figures.py       figures and differences with their intervals
paired_tests.py  McNemar's test, Tango's interval, Holm's correction
settings.py      settings that differ
wording.py       the outcome in sentences and as a table
compare_page.py  compare.html
changes_csv.py   compare.csv
"""
