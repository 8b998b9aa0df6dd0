import json
import subprocess
import sys

import fakes
import pytest

pytestmark = pytest.mark.slow

CLASSES = ("daisy", "rose")


def _run(tmp_path, name, predicted):
    return fakes.write_finished_run(
        tmp_path / name,
        labels={f"{i:02d}.jpg": "rose" for i in range(40)},
        predicted={f"{i:02d}.jpg": predicted(i) for i in range(40)},
        classes=CLASSES,
        config={"flags": {"model_dir": name, "seed": len(name)}},
    )


@pytest.fixture
def pair(tmp_path):
    return (
        _run(tmp_path, "one", lambda i: "rose" if i % 2 else "daisy"),
        _run(tmp_path, "second", lambda i: "rose"),
    )


def test_the_command_prints_the_outcome_and_writes_the_page(pair, tmp_path):
    out = tmp_path / "out"
    # Flags may stand behind the runs.
    done = fakes.run("-m", "trainer.compare", *pair, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"A  {pair[0]}",
        f"B  {pair[1]}",
        "40 test photographs, 2 classes; in brackets the 95 % interval",
    ]
    assert (
        "B is right on 20 more of 40 test photographs than A (+0.500 [+0.352, "
        "+0.648], p < 0.001): the difference is beyond chance."
    ) in lines
    assert "  --seed  3  ->  6" in lines
    assert lines[-2:] == [
        f"page:  {out / 'compare.html'}",
        f"table: {out / 'compare.csv'}",
    ]
    assert "</html>" in (out / "compare.html").read_text()


def test_a_reader_that_ends_early_causes_no_traceback(pair, tmp_path):
    command = (
        f"{sys.executable} -m trainer.compare {pair[0]} {pair[1]} --out={tmp_path}"
    )
    done = subprocess.run(
        f"{command} | true",
        shell=True,
        cwd=fakes.REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert (tmp_path / "compare.html").is_file()


def test_a_mistake_is_one_line(pair, tmp_path):
    for arguments, problem in {
        (): "Name two to 26 directories of finished runs",
        (pair[0],): "Name two to 26 directories of finished runs",
        (pair[0], str(tmp_path)): "which has no config.json",
        (*pair, "--outt=x"): "Unknown command line flag 'outt'",
    }.items():
        done = fakes.run("-m", "trainer.compare", *arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("trainer.compare: error: ")
        assert problem in done.stderr
        assert done.stderr.count("\n") == 1


def test_trained_runs_have_the_figures_of_their_summaries(data_dir, tmp_path):
    flags = [*fakes.SHALLOW_MODEL_FLAGS, f"--data_dir={data_dir}", "--regimes=head"]
    runs = [tmp_path / "one", tmp_path / "two"]
    trained = fakes.run_forked(
        [
            (
                (
                    *(fakes.TRAIN_ONLY, *flags, f"--model_dir={run}"),
                    *("--head_epochs=1", f"--seed={seed}"),
                ),
                None,
            )
            for seed, run in enumerate(runs, start=1)
        ]
    )
    assert [done.returncode for done in trained] == [0, 0], trained[0].stderr
    done = fakes.run("-m", "trainer.compare", *map(str, runs), f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    for run in runs:
        test = json.loads((run / "summary.json").read_text())["test"]
        low, high = test["ci95"]
        assert f"{test['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in done.stdout
        assert f" {test['loss']:.3f} [" in done.stdout
    assert f"{test['count']} test photographs, 3 classes" in done.stdout
    assert "  --seed  1  ->  2" in done.stdout.splitlines()
    page = (tmp_path / "compare.html").read_text()
    changed = len((tmp_path / "compare.csv").read_text().splitlines()) - 1
    assert page.count("data:image/jpeg;base64,") == changed > 0
    assert "by their names alone" not in page
