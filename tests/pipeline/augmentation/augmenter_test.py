import math

import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from pipeline.augmentation import affine, color, counter_rng, mixing
from pipeline.augmentation.affine import RandomAffine
from pipeline.augmentation.augmenter import build_augmenter
from pipeline.augmentation.presets import PRESETS

SEED = (3, 4)
CHANGING = [preset for preset in PRESETS if preset != "none"]
STILL = {
    "shear": 0.0,
    "zoom_x": 1.0,
    "zoom_y": 1.0,
    "angle": 0.0,
    "shift_x": 0.0,
    "shift_y": 0.0,
    "mirror": 1.0,
}
MOVED = {
    "shear": 0.15,
    "zoom_x": 1.1,
    "zoom_y": 0.9,
    "angle": 0.3,
    "shift_x": 2.0,
    "shift_y": -3.0,
    "mirror": -1.0,
}


def _images(count=8, size=33, low=0, high=255):
    rng = np.random.default_rng(0)
    return tf.constant(rng.uniform(low, high, (count, size, size, 3)), tf.float32)


def _seeds(images, seed):
    return counter_rng.row_seeds(tf.constant(seed), tf.range(len(images)))


def _smooth(height=97, width=129):
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    blob = 127 + 100 * np.exp(-4 * ((x - 0.1) ** 2 + (y + 0.2) ** 2))
    slope = 127 + 60 * np.sin(3 * x + 2 * y)
    return tf.constant(np.stack([blob, slope, blob], axis=-1)[None], tf.float32)


def _compose(**changes):
    values = {**STILL, **changes}
    return affine.compose(**{key: tf.constant([v]) for key, v in values.items()})


def _move(images, **changes):
    return affine.resample(images, _compose(**changes)).numpy()


def _in_a_row(images):
    """keras-cv's own layers with MOVED's values; its corner shear moved to the centre.

    Returns the image after each one.
    """
    layers = keras_cv.layers
    height, width = images.shape[1:3]
    # As x' = x + shear * y is about the upper edge, shift by what the centre is moved.
    centring = MOVED["shear"] * (height - 1) / 2

    def shift(x_px, y_px):
        return layers.RandomTranslation(
            (y_px / height,) * 2, (x_px / width,) * 2, fill_mode="nearest"
        )

    shear = layers.RandomShear(x_factor=0.0, fill_mode="nearest")
    results = [
        shear.augment_images(
            images, {"shear_x": tf.constant([[MOVED["shear"]]]), "shear_y": None}
        )
    ]
    for layer in (
        shift(centring, 0.0),
        layers.RandomZoom((-0.1, -0.1), (0.1, 0.1), fill_mode="nearest"),
        layers.RandomRotation((0.3 / (2 * math.pi),) * 2, fill_mode="nearest"),
        shift(MOVED["shift_x"], MOVED["shift_y"]),
    ):
        results.append(layer(results[-1]))
    return [*results, tf.image.flip_left_right(results[-1])]


def test_none_changes_nothing():
    images = _images()
    same = build_augmenter("none")(images, _seeds(images, [1, 2]))
    np.testing.assert_array_equal(same, images)
    assert build_augmenter("none")(images, None) is images


@pytest.mark.parametrize("preset", CHANGING)
def test_shape_dtype_and_range_stay_and_each_image_changes_in_its_own_way(preset):
    images = tf.repeat(_images(1), 8, axis=0)
    changed = build_augmenter(preset)(images, _seeds(images, SEED)).numpy()
    assert changed.shape == (8, 33, 33, 3)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert len({image.tobytes() for image in changed}) == 8


@pytest.mark.slow
@pytest.mark.parametrize("preset", CHANGING)
def test_the_seed_alone_decides_eagerly_in_a_graph_in_a_dataset_and_without_xla(preset):
    images = _images()
    apply = build_augmenter(preset)
    first = apply(images, _seeds(images, SEED)).numpy()
    assert np.abs(first - apply(images, _seeds(images, [3, 5]))).max() > 10
    assert np.abs(first - apply(images, _seeds(images, [4, 4]))).max() > 10
    in_graph = tf.function(build_augmenter(preset))(images, _seeds(images, SEED))
    np.testing.assert_allclose(in_graph, first, atol=0.02)
    # The last batch of a dataset has a size that its graph does not know.
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8)
    mapped = batches.map(
        lambda batch: apply(
            batch,
            counter_rng.row_seeds(tf.constant(SEED), tf.range(tf.shape(batch)[0])),
        )
    )
    assert mapped.element_spec.shape == (None, 33, 33, 3)
    np.testing.assert_allclose(next(iter(mapped)), first, atol=0.02)
    plain = build_augmenter(preset, xla=False)
    np.testing.assert_allclose(plain(images, _seeds(images, SEED)), first, atol=0.02)


def test_an_image_depends_on_its_own_seed_and_not_on_its_place():
    images = _images()
    seeds = counter_rng.row_seeds((1, 2), tf.range(8))
    apply = build_augmenter("strong")
    all_at_once = apply(images, seeds).numpy()
    order = [5, 0, 7]
    some = apply(tf.gather(images, order), tf.gather(seeds, order)).numpy()
    np.testing.assert_allclose(some, all_at_once[order], atol=0.02)


def test_the_matrix_is_the_product_of_the_single_ones_in_the_stated_order():
    product = np.eye(3)
    for parts in (
        ("shear",),
        ("zoom_x", "zoom_y"),
        ("angle",),
        ("shift_x", "shift_y"),
        ("mirror",),
    ):
        single = _compose(**{part: MOVED[part] for part in parts}).numpy()[0]
        product = product @ np.vstack([single, [0, 0, 1]])
    np.testing.assert_allclose(_compose(**MOVED)[0], product[:2], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "matrix"),
    [
        ({}, [[1, 0, 0], [0, 1, 0]]),
        ({"shear": 0.2}, [[1, 0.2, 0], [0, 1, 0]]),
        ({"zoom_x": 1.1, "zoom_y": 0.9}, [[1.1, 0, 0], [0, 0.9, 0]]),
        ({"angle": math.pi / 6}, [[0.75**0.5, -0.5, 0], [0.5, 0.75**0.5, 0]]),
        ({"shift_x": 2.0, "shift_y": -3.0}, [[1, 0, -2], [0, 1, 3]]),
        ({"mirror": -1.0}, [[-1, 0, 0], [0, 1, 0]]),
    ],
)
def test_the_single_matrices(changes, matrix):
    np.testing.assert_allclose(_compose(**changes)[0], matrix, atol=1e-6)


def test_the_drawn_ranges_are_the_presets():
    size = {"height": 40, "width": 50}
    seeds = counter_rng.row_seeds((1, 1), tf.range(20_000))
    affine = RandomAffine(flip=True, shear=0.2, zoom=0.2)
    matrices = affine.draw_matrices(seeds, **size).numpy()
    mirrored = matrices[:, 0, 0] < 0
    assert 0.48 < mirrored.mean() < 0.52
    zoom_x, zoom_y = np.abs(matrices[:, 0, 0]), matrices[:, 1, 1]
    assert np.abs(matrices[:, 1, 0]).max() == 0
    assert np.abs(matrices[:, :, 2]).max() == 0
    shift = RandomAffine(translation=0.1).draw_matrices(seeds, **size).numpy()
    turn = RandomAffine(rotation_degrees=10).draw_matrices(seeds, **size)
    for values, low, high in (
        (zoom_x, 0.8, 1.2),
        (zoom_y, 0.8, 1.2),
        (matrices[:, 0, 1] / zoom_y, -0.2, 0.2),
        (shift[:, 0, 2] / 50, -0.1, 0.1),
        (shift[:, 1, 2] / 40, -0.1, 0.1),
        (np.rad2deg(np.arcsin(turn[:, 1, 0])) / 50, -0.2, 0.2),
    ):
        assert low - 1e-6 <= values.min() < low + 0.002
        assert high - 0.002 < values.max() <= high + 1e-6
    ranges = np.stack([zoom_x, zoom_y, matrices[:, 0, 1] / zoom_y, mirrored])
    assert np.abs(np.corrcoef(ranges) - np.eye(4)).max() < 0.03


def test_whole_pixels_move_exactly_and_edges_are_extended():
    images = _images(1).numpy()
    np.testing.assert_array_equal(_move(images), images)
    mirrored = _move(images, mirror=-1.0)
    np.testing.assert_allclose(mirrored, images[:, :, ::-1], atol=1e-3)
    shifted = _move(images, shift_x=2.0, shift_y=-3.0)
    np.testing.assert_allclose(shifted[:, :-3, 2:], images[:, 3:, :-2], atol=1e-3)
    np.testing.assert_allclose(shifted[:, :-3, 0], images[:, 3:, 0], atol=1e-3)
    np.testing.assert_allclose(shifted[:, -1, 2:], images[:, -1, :-2], atol=1e-3)
    quarter = _move(images, angle=math.pi / 2)
    np.testing.assert_allclose(quarter, tf.image.rot90(images), atol=0.01)
    one_pixel = tf.constant([[[[7.0]]]])
    np.testing.assert_array_equal(_move(one_pixel, **MOVED), one_pixel)


def test_it_is_the_projective_transform_of_tensorflow():
    images = _images(1).numpy()
    (xx, xy, x0), (yx, yy, y0) = _compose(**MOVED).numpy()[0]
    offset = np.array([16 + x0 - 16 * (xx + xy), 16 + y0 - 16 * (yx + yy)])
    theirs = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=np.float32([[xx, xy, offset[0], yx, yy, offset[1], 0, 0]]),
        output_shape=[33, 33],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    np.testing.assert_allclose(_move(images, **MOVED), theirs, atol=0.02)


def test_one_resample_agrees_with_keras_cv_layer_by_layer_away_from_the_borders():
    images = _smooth()
    theirs = _in_a_row(images)[-1].numpy()
    ours = _move(images, **MOVED)
    inside = (slice(None), slice(30, -30), slice(30, -30))
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.5)
    assert np.abs(ours - images)[inside].max() > 20


def test_one_resample_keeps_more_of_what_is_fine_than_several():
    images = _images(1, 129)
    inside = (slice(None), slice(30, -30), slice(30, -30))
    ours = np.var(_move(images, **MOVED)[inside])
    theirs = np.var(_in_a_row(images)[-1].numpy()[inside])
    original = np.var(images.numpy()[inside])
    # Of white noise one bilinear look keeps (2/3)^2, as shares are anywhere between.
    assert 0.4 < ours / original < 0.5
    assert theirs < 0.6 * ours


def test_as_a_keras_cv_layer_it_draws_anew_at_each_call():
    images = _images()
    layer = RandomAffine(flip=True, shear=0.2, zoom=0.2, translation=0.1)
    first, second = layer(images).numpy(), layer(images).numpy()
    assert first.shape == images.shape
    assert not np.allclose(first, second)


def _adjust(images, *, contrast=1.0, brightness=0.0, saturation=1.0, hue=0.0):
    count = images.shape[0]
    adjusted = color.adjust_colors(
        images,
        contrast=tf.fill([count], contrast),
        brightness=tf.fill([count], brightness),
        saturation=tf.fill([count], saturation),
        hue=tf.fill([count], hue),
    )
    return adjusted.numpy()


def test_each_colour_operation_is_the_one_of_tensorflow_or_keras_cv():
    images = _images(4, low=60, high=190)
    np.testing.assert_allclose(_adjust(images), images, atol=1e-3)
    for factor in (0.6, 1.4):
        theirs = tf.image.adjust_contrast(images, factor)
        np.testing.assert_allclose(_adjust(images, contrast=factor), theirs, atol=0.01)
    theirs = keras_cv.layers.RandomBrightness((0.1, 0.1), value_range=(0, 255))(images)
    np.testing.assert_allclose(_adjust(images, brightness=25.5), theirs, atol=0.01)
    theirs = keras_cv.layers.RandomColorDegeneration((0.3, 0.3))(images)
    # TensorFlow's grey weighs red by 0.2989.
    np.testing.assert_allclose(_adjust(images, saturation=0.7), theirs, atol=0.05)


def test_hue_rotates_the_chroma_and_keeps_the_luma():
    images = _images(4, low=60, high=190)
    yiq = tf.image.rgb_to_yiq(images).numpy()
    turned = tf.image.rgb_to_yiq(_adjust(images, hue=0.04)).numpy()
    chroma = yiq[..., 1] + 1j * yiq[..., 2]
    np.testing.assert_allclose(turned[..., 0], yiq[..., 0], atol=0.01)
    np.testing.assert_allclose(
        turned[..., 1] + 1j * turned[..., 2],
        chroma * np.exp(-2j * math.pi * 0.04),
        atol=0.01,
    )
    # The same way round as tf.image, and on average by as much.
    before = tf.image.rgb_to_hsv(images / 255)[..., 0].numpy()
    after = tf.image.rgb_to_hsv(_adjust(images, hue=0.04) / 255)[..., 0].numpy()
    moved = (after - before + 0.5) % 1 - 0.5
    assert 0.035 < moved.mean() < 0.045


def test_one_colour_matrix_is_the_four_operations_in_the_stated_order():
    images = _images(4, low=100, high=150)
    one_by_one = images
    for change in (
        {"contrast": 1.3},
        {"brightness": -20.0},
        {"saturation": 1.3},
        {"hue": -0.05},
    ):
        one_by_one = _adjust(one_by_one, **change)
    at_once = _adjust(images, contrast=1.3, brightness=-20.0, saturation=1.3, hue=-0.05)
    assert at_once.min() > 0  # nothing was clipped on either side
    np.testing.assert_allclose(at_once, one_by_one, atol=0.01)
    assert _adjust(images, brightness=200.0).max() == 255
    assert _adjust(images, brightness=-200.0).min() == 0


def test_each_image_has_colours_of_its_own():
    grey = tf.fill([6, 8, 8, 3], 128.0)
    lit = build_augmenter("strong")(grey, _seeds(grey, SEED)).numpy()
    np.testing.assert_allclose(lit.std(axis=(1, 2, 3)), 0, atol=1e-3)
    assert len(set(lit[:, 0, 0, 0].round(2))) == 6
    assert np.abs(lit - 128).max() <= 0.15 * 255 + 1e-3


def test_threefry_gives_the_published_vectors():
    """Those of Random123, its authors' implementation, for 20 rounds."""
    ones = (0xFFFFFFFF, 0xFFFFFFFF)
    pi = (0x243F6A88, 0x85A308D3)
    for key, counter, expected in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        (ones, ones, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), pi, (0xC4923A9C, 0x483DF7A0)),
    ):
        words = counter_rng.threefry(
            *(tf.constant(w, tf.uint32) for w in (key, counter))
        )
        assert tuple(int(word) for word in words) == expected


def test_the_draws_are_uniform_and_independent():
    count = 20_000
    seeds = counter_rng.row_seeds((7, 0), tf.range(count))
    draws = counter_rng.uniforms(seeds, 7, stream=0).numpy()
    assert draws.shape == (count, 7)
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(axis=0), 1 / 2, atol=0.01)
    np.testing.assert_allclose(draws.var(axis=0), 1 / 12, atol=0.003)
    histogram = np.histogram(draws, bins=20, range=(0, 1))[0]
    np.testing.assert_allclose(histogram, draws.size / 20, rtol=0.05)
    # Of 20,000 independent pairs the correlation has a deviation of 0.007.
    next_row = np.roll(draws, 1, axis=0)
    other_stream = counter_rng.uniforms(seeds, 7, stream=1).numpy()
    next_seeds = counter_rng.row_seeds((7, 1), tf.range(count))
    next_seed = counter_rng.uniforms(next_seeds, 7, stream=0).numpy()
    counted = tf.stack([tf.range(count), tf.fill([count], 5)], axis=1)
    bare = counter_rng.uniforms(counted, 7, stream=0).numpy()
    bare_next = counter_rng.uniforms(counted + tf.constant([0, 1]), 7, stream=0).numpy()
    together = np.hstack(
        [draws, next_row, other_stream, next_seed, bare, np.roll(bare, 1, 0), bare_next]
    )
    correlations = np.corrcoef(together.T)
    assert np.abs(correlations - np.eye(49)).max() < 0.035


def test_the_draws_are_the_same_bits_compiled_and_for_fewer_columns_or_rows():
    seeds = counter_rng.row_seeds((7, -1), tf.range(100))
    draws = counter_rng.uniforms(seeds, 7, stream=0).numpy()
    compiled = tf.function(counter_rng.uniforms, jit_compile=True)
    np.testing.assert_array_equal(compiled(seeds, 7, stream=0), draws)
    fewer = counter_rng.uniforms(seeds[40:50], 3, stream=0)
    np.testing.assert_array_equal(fewer, draws[40:50, :3])


def _mix(name, values, weights, seed=SEED):
    mix = mixing.build_mixer(name)
    weights = tf.constant(weights, tf.float32)
    return [part.numpy() for part in mix(values, tf.constant(seed), weights)]


@pytest.mark.parametrize("shape", [(8, 5, 6, 2), (8, 3)])
def test_mixup_adds_the_partner_by_what_the_share_leaves(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mixed, partner, share = _mix("mixup", values, [1] * 8)
    wide = share.reshape([8] + [1] * (len(shape) - 1))
    expected = wide * values + (1 - wide) * values[partner]
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    half = tf.cast(values, tf.float16)
    mixed = mixing.build_mixer("mixup")(half, tf.constant(SEED), tf.ones(8))[0]
    assert mixed.dtype == tf.float16
    np.testing.assert_allclose(mixed, expected, atol=0.01)


@pytest.mark.parametrize(("height", "width"), [(40, 30), (7, 14)])
def test_cutmix_replaces_one_box_and_the_share_is_what_it_leaves(height, width):
    values = np.arange(16, dtype=np.float32)[:, None, None, None]
    values = np.tile(values, [1, height, width, 2])
    mixed, partner, share = _mix("cutmix", values, [1] * 16)
    for row in range(16):
        replaced = (mixed[row] == partner[row]).all(axis=-1)
        assert np.isin(mixed[row], [row, partner[row]]).all()
        ys, xs = replaced.any(axis=1), replaced.any(axis=0)
        np.testing.assert_array_equal(replaced, ys[:, None] & xs)
        for side in (ys, xs):
            assert np.count_nonzero(np.diff(side.astype(int))) <= 2
        assert share[row] == np.float32((~replaced).sum() / (height * width))
    assert np.ptp(share) > 0.3


def test_cutmix_boxes_scale_with_the_feature_map():
    for seed in range(5):
        (_, partner, share), (_, same_partner, same_share) = (
            _mix("cutmix", _images(16, size), [1] * 16, (seed, 0)) for size in (14, 224)
        )
        assert partner.tolist() == same_partner.tolist()
        np.testing.assert_allclose(share, same_share, atol=0.16)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_padding_is_mixed_into_nothing_and_stays(name):
    images = _images().numpy()
    weights = np.array([1, 0, 1, 1, 0, 1, 0, 0], np.float32)
    images[weights == 0] = np.nan
    for seed in range(5):
        mixed, partner, share = _mix(name, images, weights, (seed, 1))
        kept = weights > 0
        assert np.isfinite(mixed[kept]).all()
        assert sorted(partner) == list(range(8))
        assert (partner[kept] != np.arange(8)[kept]).all()
        assert (partner[~kept] == np.arange(8)[~kept]).all()
        assert (share[~kept] == 1).all()


def test_a_row_that_counts_alone_stays_as_it_is():
    images = _images(3).numpy()
    for weights in ([0, 1, 0], [0, 0, 0]):
        for name in ("mixup", "cutmix"):
            mixed, partner, _ = _mix(name, images, weights)
            np.testing.assert_allclose(mixed, images, atol=1e-3)
            assert partner.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_depends_on_the_seed_alone_in_a_graph_and_in_a_dataset(name):
    images, weights = _images(), tf.constant([1.0] * 7 + [0.0])
    first = _mix(name, images, weights)
    mix = mixing.build_mixer(name)
    in_graph = tf.function(mix)(images, tf.constant(SEED), weights)
    mapped = tf.data.Dataset.from_tensor_slices((images, weights)).batch(8)
    mapped = mapped.map(lambda image, weight: mix(image, tf.constant(SEED), weight))
    for again in (in_graph, next(iter(mapped))):
        for part, expected in zip(again, first, strict=True):
            np.testing.assert_allclose(part, expected, atol=1e-3)
    other = _mix(name, images, weights, (3, 5))
    assert np.abs(other[2] - first[2]).max() > 0.1


def test_the_shares_have_the_distributions_of_the_papers():
    values = tf.zeros([20_000, 1])
    share = _mix("mixup", values, [1] * 20_000)[2]
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert abs(share.mean() - 0.5) < 0.01
    assert abs(share.var() - 1 / (4 * 1.4)) < 0.005
    boxes = _mix("cutmix", tf.zeros([4_000, 32, 32, 1]), [1] * 4_000)[2]
    # The borders take from the boxes, so more than half is left on average.
    rng = np.random.default_rng(0)
    side = 32 * np.sqrt(rng.random(100_000))
    area = 1.0
    for _ in range(2):
        middle = 32 * rng.random(100_000)
        low, high = np.maximum(middle - side / 2, 0), np.minimum(middle + side / 2, 32)
        area = area * (high - low) / 32
    assert abs(boxes.mean() - (1 - area.mean())) < 0.02
    assert abs(boxes.std() - area.std()) < 0.02


def test_an_unknown_name_is_quoted():
    with pytest.raises(ValueError, match="Received: --augment=strongest"):
        build_augmenter("strongest")
    with pytest.raises(ValueError, match="Received: --mix=blend"):
        mixing.build_mixer("blend")
