"""Runs trainer.main without what follows the evaluation: the report and the export.

They take almost half of a small run. The flag --epochs_only also leaves out the
evaluation of the best weights, a third of the rest; summary.json then holds no result.
Usage: python tests/fakes/train_only.py FLAGS [--epochs_only], where FLAGS are those of
`python -m trainer.main`.
"""

import os
import sys
import types


def _leave_out(*, evaluation: bool) -> None:
    """Replaces report and export, and the evaluation too if that is asked for."""
    stand_in = types.ModuleType("export.export_run")
    stand_in.export_run = lambda model_dir, export_dir: "not exported"
    sys.modules["export.export_run"] = stand_in
    from pipeline.system import console

    with console.quiet_tensorflow_import():
        from pipeline.system import files
        from trainer import train
        from trainer.evaluation import report
        from trainer.training import run_dir

    def write_empty_summary(runtime, config, model_dir, classes, history):
        summary = {"classes": list(classes), "export": None}
        if runtime.is_chief:
            files.write_json(model_dir / run_dir.SUMMARY_FILE, summary)
        return summary if runtime.is_chief else None

    report.write_report = lambda *_, **__: None
    if evaluation:
        train.evaluate_run = write_empty_summary


if __name__ == "__main__":
    import shallow_net  # Of the directory of this file.

    sys.path[0] = os.getcwd()  # As `python -m` does.
    epochs_only = "--epochs_only" in sys.argv
    if epochs_only:
        sys.argv.remove("--epochs_only")
    _leave_out(evaluation=epochs_only)
    from trainer import main

    shallow_net.register()
    main.run_command()
