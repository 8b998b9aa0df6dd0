import pathlib

import pytest

from export import export_run
from export.drift_check.reference import read_reference
from export.version.folding import predict_replies
from pipeline.loading import prepared_data
from trainer.postprocessing import postprocessing

pytestmark = pytest.mark.slow


def test_an_export_holds_the_answers_for_its_validation_images(
    exported, trained_run, restored, data_dir
):
    records = prepared_data.read_records(data_dir, "validation")
    images = [each["image_bytes"] for each in records.dataset.as_numpy_iterator()]
    constants = postprocessing.read(trained_run / postprocessing.FILE)
    replies = predict_replies(restored, constants, images, image_size=32)
    reference = read_reference(exported)
    assert reference.classes == ("circle", "square", "stripe")
    # Some drawings are near duplicates.
    assert 5 <= reference.count <= len(images)
    assert reference.embeddings.shape == (
        reference.count,
        reference.projection.shape[1],
    )
    expected = iter(
        zip(replies["probabilities"], replies["unknown_score"], strict=True)
    )
    # The iterator is not rewound: the rows are a part of the images, in their order.
    for row in range(reference.count):
        assert any(
            reference.class_ids[row] == probabilities.argmax()
            and abs(reference.confidences[row] - probabilities.max()) < 1e-4
            and abs(reference.unknown_scores[row] - score) < 1e-3 * (1 + abs(score))
            for probabilities, score in expected
        )


def test_without_prepared_data_one_line_says_that_there_is_no_reference(
    shallow_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(export_run, "_find_prepared_data", lambda *_: None)
    version = export_run.export_run(str(shallow_run), str(tmp_path))
    lines = [line for line in capsys.readouterr().out.splitlines() if "refer" in line]
    assert len(lines) == 1
    assert lines[0].startswith("the prepared data are gone, so this export holds no")
    with pytest.raises(ValueError, match=r"this export is of version 0\.3\.0, commit"):
        read_reference(pathlib.Path(version))
