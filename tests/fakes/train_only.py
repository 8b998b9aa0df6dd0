"""Runs trainer.main without what follows the evaluation: the report and the export.

They take almost half of a small run. Usage: python tests/fakes/train_only.py FLAGS, as
with `python -m trainer.main FLAGS`.
"""

import os
import sys
import types

if __name__ == "__main__":
    import shallow_net  # Of the directory of this file.

    sys.path[0] = os.getcwd()  # As `python -m` does.
    stand_in = types.ModuleType("export.export_run")
    stand_in.export_run = lambda model_dir, export_dir: "not exported"
    sys.modules["export.export_run"] = stand_in
    from pipeline.system import console
    from trainer import main

    with console.quiet_tensorflow_import():
        from trainer.evaluation import report
    report.write_report = lambda *_, **__: None
    shallow_net.register()

    main.run_command()
