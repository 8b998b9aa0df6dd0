import io
import time

import numpy as np
import pytest
from PIL import Image

from export.drift_check import answers


def _encode(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def _ask(signature, images):
    """A model whose embedding is the number of bytes; an empty file is not decoded."""
    sizes = np.array([len(image) for image in images], np.float32)
    ok = {"decode_ok": sizes > 0}
    if signature == "features":
        return ok | {"embedding": np.stack([sizes, -sizes], axis=1)}
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))
    return ok | {"probabilities": probabilities, "label": np.array(images, object)}


def test_answers_come_in_the_order_of_the_items():
    def read(batch):
        time.sleep(0.02 if batch[0] == 0 else 0)  # The first batch is the slowest.
        return [_encode(shade) for shade in batch]

    parts = list(answers.ask_in_batches(_ask, range(50), read))
    assert [len(part.decoded) for part in parts] == [16, 16, 16, 2]
    joined = answers.join(parts)
    sizes = [len(_encode(shade)) for shade in range(50)]
    assert joined.embeddings[:, 0].tolist() == sizes
    np.testing.assert_allclose(joined.measures[:, 0], np.arange(50) / 255, atol=1e-6)
    assert joined.class_ids.tolist() == [1] * 50
    assert joined.confidences.tolist() == [0.75] * 50
    assert joined.unknown_scores is None
    assert joined.num_classes == 2
    assert joined.decoded.all()


def test_an_image_counts_if_the_model_and_pillow_decode_it():
    images = [_encode(9), b"", b"no image", _encode(5)]
    (part,) = answers.ask_in_batches(_ask, images, list)
    assert part.decoded.tolist() == [True, False, False, True]
    taken = part.take(part.decoded)
    assert taken.embeddings[:, 0].tolist() == [len(images[0]), len(images[3])]
    assert taken.num_classes == 2


def test_the_model_does_not_get_what_pillow_cannot_decode():
    asked = []

    def ask(signature, images):
        asked.append(images)
        return _ask(signature, images)

    truncated = _encode(7)[:60]
    list(answers.ask_in_batches(ask, [_encode(9), truncated], list))
    assert asked == [[_encode(9), b""]] * 2


def test_the_unknown_score_is_optional():
    def ask(signature, images):
        return _ask(signature, images) | {
            "unknown_score": np.arange(len(images), dtype=np.float32)
        }

    joined = answers.join(
        list(answers.ask_in_batches(ask, [_encode(shade) for shade in range(17)], list))
    )
    assert joined.unknown_scores.tolist() == [*range(16), 0]
    assert joined.take(np.array([3, 1])).unknown_scores.tolist() == [3, 1]


def test_embeddings_are_those_of_images_that_can_be_decoded():
    images = [_encode(shade) for shade in range(20)]
    embeddings = answers.embed(_ask, iter([b"", *images]))
    assert embeddings[:, 1].tolist() == [-len(image) for image in images]


def test_a_signature_with_other_outputs_is_quoted():
    def ask(signature, images):
        return {"scores": np.zeros(len(images))}

    with pytest.raises(
        ValueError, match=r"features must return embedding and decode_ok"
    ):
        list(answers.ask_in_batches(ask, [_encode(1)], list))


def test_of_near_duplicates_the_first_counts():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2, (4, 256)).astype(bool)
    hashes[2] = hashes[0]
    hashes[2, :20] ^= True
    assert answers.find_near_duplicates(hashes).tolist() == [False, False, True, False]
