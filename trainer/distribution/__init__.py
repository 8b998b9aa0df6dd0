"""Spreads a run over devices and workers, and stops it in step.

runtime.py      strategy, precision, seeds
collectives.py  broadcast, barrier, reduce and gather between workers
preemption.py   SIGTERM and Ctrl-C
"""
