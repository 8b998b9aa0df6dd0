"""Runs trainer.main without its last step: the export takes a third of a small run.

Usage: python tests/fakes/train_only.py FLAGS, as with `python -m trainer.main FLAGS`.
"""

import os
import sys
import types

if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # As `python -m` does.
    stand_in = types.ModuleType("export.export_run")
    stand_in.export_run = lambda model_dir, export_dir: "not exported"
    sys.modules["export.export_run"] = stand_in
    from trainer import main

    main.run_command()
