import numpy as np
import pytest
import tensorflow as tf

from pipeline import augment


def _images(count=8, size=33):
    rng = np.random.default_rng(0)
    return tf.constant(rng.uniform(0, 255, (count, size, size, 3)), tf.float32)


def test_none_changes_nothing():
    images = _images()
    same = augment.build_augmenter("none")(images, tf.constant([1, 2]))
    np.testing.assert_array_equal(same, images)


def test_notebook_keeps_shape_dtype_and_range_and_changes_each_image_in_its_own_way():
    images = tf.repeat(_images(1), 8, axis=0)
    changed = augment.build_augmenter("notebook")(images, tf.constant([1, 2])).numpy()
    assert changed.shape == (8, 33, 33, 3)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert len({image.tobytes() for image in changed}) == 8


def test_the_seed_alone_decides_eagerly_and_in_a_graph():
    images = _images()
    apply = augment.build_augmenter("notebook")
    first = apply(images, tf.constant([3, 4])).numpy()
    in_graph = tf.function(augment.build_augmenter("notebook"))
    np.testing.assert_allclose(in_graph(images, tf.constant([3, 4])), first, atol=1e-3)
    assert not np.allclose(apply(images, tf.constant([3, 5])), first)
    assert not np.allclose(apply(images, tf.constant([4, 4])), first)
    mapped = tf.data.Dataset.from_tensors(images).map(
        lambda batch: apply(batch, tf.constant([3, 4]))
    )
    np.testing.assert_allclose(next(iter(mapped)), first, atol=1e-3)


def test_the_centre_stays_and_the_drawn_ranges_are_the_presets():
    layer = augment.RandomAffine(shear=0.2, zoom=0.2, flip=True)
    matrices = layer.draw_matrices(20_000, tf.constant([1, 1])).numpy()
    mirrored = matrices[:, 0, 0] < 0
    assert 0.48 < mirrored.mean() < 0.52
    zoom_x, zoom_y = np.abs(matrices[:, 0, 0]), matrices[:, 1, 1]
    shear = matrices[:, 0, 1] / zoom_y
    for values, low, high in (
        (zoom_x, 0.8, 1.2),
        (zoom_y, 0.8, 1.2),
        (shear, -0.2, 0.2),
    ):
        assert low <= values.min() < low + 0.002
        assert high - 0.002 < values.max() <= high + 1e-6
    assert np.abs(matrices[:, 1, 0]).max() == 0
    transforms = augment.centred_transforms(
        tf.constant(matrices[:10]), height=33, width=33
    ).numpy()
    centre = np.array([16.0, 16.0, 1.0])
    np.testing.assert_allclose(transforms[:, :3] @ centre, 16, atol=1e-4)
    np.testing.assert_allclose(transforms[:, 3:6] @ centre, 16, atol=1e-4)


def _apply_matrix(images, matrix):
    layer = augment.RandomAffine(shear=0, zoom=0, flip=False)
    return layer.augment_images(images, tf.constant([matrix], tf.float32)).numpy()


def test_a_mirror_alone_is_the_mirrored_image():
    images = _images(1)
    mirrored = _apply_matrix(images, [[-1, 0], [0, 1]])
    np.testing.assert_allclose(mirrored, images.numpy()[:, :, ::-1], atol=1e-2)


def test_one_resample_agrees_with_keras_cv_layer_by_layer():
    """Of a smooth image, which three resamples hardly blur more than one."""
    import keras_cv

    axis = np.linspace(-1, 1, 65, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    smooth = 127 + 100 * np.exp(-4 * ((x - 0.1) ** 2 + (y + 0.2) ** 2))
    images = tf.constant(np.repeat(smooth[None, :, :, None], 3, axis=3))
    zoom_layer = keras_cv.layers.RandomZoom((0.1, 0.1), (-0.15, -0.15))
    # keras-cv zooms the input coordinates by 1 + factor about the centre.
    zoomed = zoom_layer(images).numpy()
    ours = _apply_matrix(images, [[0.85, 0], [0, 1.1]])
    inside = (slice(None), slice(10, -10), slice(10, -10))
    np.testing.assert_allclose(ours[inside], zoomed[inside], atol=0.5)
    assert np.abs(ours - images).max() > 5


def test_as_a_keras_cv_layer_it_draws_anew_at_each_call():
    images = _images()
    layer = augment.RandomAffine(shear=0.2, zoom=0.2, flip=True)
    first, second = layer(images).numpy(), layer(images).numpy()
    assert first.shape == images.shape
    assert not np.allclose(first, second)


def test_an_unknown_preset_is_quoted():
    with pytest.raises(ValueError, match="Received: --augment=strongest"):
        augment.build_augmenter("strongest")
