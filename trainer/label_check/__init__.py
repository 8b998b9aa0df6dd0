"""Checks the labels of prepared data: --check_labels and trainer.check_labels.

check.py        the order of the whole check; writes label_issues.csv and labels.html
out_of_fold.py  predicts each photograph with a head that was fitted without it
ranking.py      orders the photographs by how little the prediction supports the label
labels_page.py  the page labels.html, on which a person decides
"""
