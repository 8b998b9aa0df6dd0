import fakes
import pytest

from trainer.comparison import figures
from trainer.comparison.alignment import align_runs
from trainer.comparison.run_results import read_runs

CLASSES = ("daisy", "rose", "tulip")


@pytest.fixture
def few_resamples(monkeypatch):
    """Makes the bootstrap quick where its limits do not matter."""
    monkeypatch.setattr(figures, "_RESAMPLES", 99)


@pytest.fixture
def make_run(tmp_path):
    """Returns make_run(name, answers): writes a finished run and returns its path.

    answers: name of a photograph -> (label, predicted class).
    """

    def make(name, answers, *, classes=CLASSES, config=None):
        return fakes.write_finished_run(
            tmp_path / name,
            labels={photograph: label for photograph, (label, _) in answers.items()},
            predicted={
                photograph: answer for photograph, (_, answer) in answers.items()
            },
            classes=classes,
            config=config,
        )

    return make


@pytest.fixture
def make_pair(make_run):
    """Returns make_pair(answers): two aligned runs.

    answers: (label, class predicted by A, class predicted by B) of each photograph.
    """

    def make(answers):
        runs = [
            make_run(
                f"run_{'ab'[index]}",
                {
                    f"{position:03d}.jpg": (answer[0], answer[index + 1])
                    for position, answer in enumerate(answers)
                },
            )
            for index in range(2)
        ]
        return align_runs(read_runs(runs))

    return make
