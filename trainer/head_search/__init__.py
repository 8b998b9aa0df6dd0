"""Compares heads on cached features, on which a head trains in less than a second.

search.py               --sweep and --head_folds: the grid, the ranking, the folds
logistic_head.py        --head_start=logistic: solves the head exactly
logistic_regression.py  solves one regression
learning_curve.py       heads on more and more photographs
pooled_features.py      the pooled features of both splits
folds.py                the fold of each image
stacked_heads.py        trains many heads of one shape as one batched model
tables.py               what the search prints
"""
