import dataclasses
import shutil

import fakes
import numpy as np
import pytest
import tensorflow as tf

from pipeline import decoding, prepare
from pipeline.loading import data_service, order, prepared_data
from pipeline.loading.dataset import make_eval_dataset, make_train_dataset
from pipeline.loading.order import _size_window, num_batches
from pipeline.loading.sharding import shard_positions


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    base = tmp_path_factory.mktemp("dataset")
    source = fakes.write_folder(base / "photos", per_class=25)
    prepare.prepare(str(source), str(base / "data"))
    return source, str(base / "data")


def _fingerprint(image) -> bytes:
    return np.asarray(image).tobytes()


def _context(pipelines=1, index=0, *, replicas=1):
    """The worker of that index among so many workers, with so many replicas in all."""
    return tf.distribute.InputContext(
        num_input_pipelines=pipelines,
        input_pipeline_id=index,
        num_replicas_in_sync=replicas,
    )


def _train(records, *, epoch=1, seed=1, epochs=1, input_context=None):
    """The batches of one epoch, or of several that follow one another."""
    input_context = input_context or _context()
    per_replica = input_context.get_per_replica_batch_size(8)
    examples = epochs * num_batches(records.count, 8) * 8
    return list(
        make_train_dataset(
            records,
            image_size=16,
            batch_size=8,
            epoch=epoch,
            seed=seed,
            input_context=input_context,
        )
        .take(examples // input_context.num_input_pipelines // per_replica)
        .as_numpy_iterator()
    )


def _counted(batches):
    return [
        _fingerprint(image)
        for batch in batches
        for image, weight in zip(batch["image"], batch["weight"], strict=True)
        if weight > 0
    ]


def test_info_has_classes_in_label_order_and_counts(data):
    info = prepared_data.read_info(data[1])
    assert info.classes == ("circle", "square", "stripe")
    assert sum(info.counts.values()) == 75
    assert set(info.counts) == {"train", "validation", "test"}


def test_batches_have_the_shapes_that_are_promised(data):
    records = prepared_data.read_records(data[1], "train")
    made = make_train_dataset(
        records,
        image_size=16,
        batch_size=8,
        input_context=_context(replicas=2),
        epoch=1,
        seed=1,
    )
    assert made.element_spec == {
        "image": tf.TensorSpec([4, 16, 16, 3], tf.uint8),
        "label": tf.TensorSpec([4], tf.int32),
        "weight": tf.TensorSpec([4], tf.float32),
        "position": tf.TensorSpec([4], tf.int32),
    }


def test_an_epoch_holds_every_example_once_and_pads_with_weight_zero(data):
    records = prepared_data.read_records(data[1], "train")
    assert records.count % 8, "the last batch must be partial for this test to test"
    batches = _train(records)
    assert len(batches) == num_batches(records.count, 8)
    counted = _counted(batches)
    assert len(counted) == len(set(counted)) == records.count
    expected = {
        _fingerprint(decoding.decode_and_resize(example["image_bytes"], 16))
        for example in records.dataset
    }
    assert set(counted) == expected


def test_labels_stay_with_their_images(data):
    source, data_dir = data
    records = prepared_data.read_records(data_dir, "validation")
    classes = prepared_data.read_info(data_dir).classes
    names = prepared_data.read_names(records)
    batches = make_eval_dataset(records, image_size=16, batch_size=8)
    seen = 0
    for batch in batches.as_numpy_iterator():
        for image, label, weight in zip(
            batch["image"], batch["label"], batch["weight"], strict=True
        ):
            if weight == 0:
                continue
            name = names[seen]
            assert name.split("/")[0] == classes[label]
            image_bytes = (source / name).read_bytes()
            expected = decoding.decode_and_resize(tf.constant(image_bytes), 16)
            np.testing.assert_array_equal(image, expected)
            seen += 1
    assert seen == records.count


def test_the_order_follows_from_seed_and_epoch(data):
    records = prepared_data.read_records(data[1], "train")
    counted = _counted(_train(records, seed=1, epochs=2))
    first, second = counted[: records.count], counted[records.count :]
    assert sorted(first) == sorted(second)
    assert first != second
    assert _counted(_train(records, seed=2)) != first
    # Opened again, as a resumed run does.
    again = prepared_data.read_records(data[1], "train")
    assert _counted(_train(again, seed=1)) == first


def test_the_order_does_not_depend_on_the_number_of_shards(data, tmp_path):
    source, data_dir = data
    prepare.prepare(str(source), str(tmp_path / "three"), num_shards=3)
    one, three = (
        prepared_data.read_names(prepared_data.read_records(str(path), "train"))
        for path in (data_dir, tmp_path / "three")
    )
    assert one == three


@pytest.fixture(params=["one window", "two windows"])
def window(request, data, monkeypatch):
    if request.param == "two windows":
        count = prepared_data.read_info(data[1]).counts["train"]
        assert _size_window(num_batches(count, 8), 0) < 8
        monkeypatch.setattr(order, "WINDOW_BYTES", 1)


@pytest.mark.parametrize(
    "pipelines",
    [
        2,
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(8, marks=pytest.mark.slow),
    ],
)
def test_workers_share_each_global_batch_exactly(data, window, pipelines):
    records = prepared_data.read_records(data[1], "train")
    alone = _train(records, epochs=2)
    steps = len(alone) // 2
    for index in range(pipelines):
        context = _context(pipelines, index, replicas=pipelines)
        share = _train(records, epochs=2, input_context=context)
        for ours, batch in zip(share, alone, strict=True):
            for key in ("image", "label", "weight", "position"):
                np.testing.assert_array_equal(ours[key], batch[key][index::pipelines])
        # However the epochs shuffle, each reads the same photographs.
        for epoch in (share[:steps], share[steps:]):
            read = [p for b in epoch for p in b["position"][b["weight"] > 0]]
            assert sorted(read) == list(range(index, records.count, pipelines))


def test_every_step_has_examples_and_the_fillers_are_spread(data, window):
    records = prepared_data.read_records(data[1], "train")
    assert records.count % 8
    batches = _train(records, epochs=8)
    counted = np.reshape([batch["weight"].sum() for batch in batches], [8, -1])
    assert {sum(counts) for counts in counted} == {records.count}
    assert counted.min() >= records.count % 8
    # Not always in the same batch.
    assert len(set(counted.argmin(axis=1))) > 1


def test_a_pipeline_without_an_example_fills_its_batches(data):
    records = prepared_data.read_records(data[1], "test")
    few = dataclasses.replace(
        records, dataset=records.dataset.take(2), uncached=None, count=2
    )
    arrays = (np.arange(4, dtype=np.float32).reshape(2, 2),)
    labels = np.array([1, 2], np.int32)
    for pipeline in range(4):
        context = _context(4, pipeline, replicas=4)
        rows = list(shard_positions(context, 2))
        kept = rows or [0]
        precomputed = prepared_data.with_features(
            few, (arrays[0][kept],), labels[kept], context
        )
        for made in (few, precomputed):
            (batch,) = _train(made, input_context=context)
            assert batch["weight"].tolist() == [1, 0] if rows else [0, 0]
            assert batch["position"][: len(rows)].tolist() == rows
        if rows:
            np.testing.assert_array_equal(batch["image"][0], arrays[0][rows[0]])


def test_the_epochs_follow_one_another(data, window):
    records = prepared_data.read_records(data[1], "train")
    wanted = [batch for e in (1, 2, 3) for batch in _train(records, epoch=e)]
    for ours, theirs in zip(_train(records, epochs=3), wanted, strict=True):
        np.testing.assert_array_equal(ours["position"], theirs["position"])


def test_replicas_of_one_pipeline_get_successive_parts_of_the_batch(data):
    records = prepared_data.read_records(data[1], "train")
    whole = _train(records)
    halves = _train(records, input_context=_context(replicas=2))
    assert len(halves) == 2 * len(whole)
    np.testing.assert_array_equal(
        np.concatenate([halves[2]["label"], halves[3]["label"]]), whole[1]["label"]
    )


@pytest.mark.parametrize("trains", [True, False])
def test_the_bytes_are_read_once_and_then_come_from_memory(
    data, tmp_path, window, trains
):
    data_dir = shutil.copytree(data[1], tmp_path / "data")
    records = prepared_data.read_records(str(data_dir), "train")
    steps = num_batches(records.count, 8)
    options = {"image_size": 16, "batch_size": 8}

    def read():
        if trains:
            batches = make_train_dataset(records, epoch=1, seed=1, **options)
            batches = iter(batches)
            while True:
                yield _counted([next(batches) for _ in range(steps)])
        while True:
            yield _counted(make_eval_dataset(records, **options))

    epochs = read()
    first = next(epochs)
    for shard in data_dir.glob("*.tfrecord*"):
        shard.unlink()
    for _ in range(3):
        assert sorted(next(epochs)) == sorted(first)


def test_windows_are_of_a_size_and_none_is_of_a_single_batch():
    for least in (0, 2, 3, 10, 27):
        for steps in range(2, 300):
            size = _size_window(steps, least)
            last = (steps - 1) % size + 1
            assert max(3, least) <= size <= 2 * max(3, least) + 1 or size == steps
            assert last > max(1, size / 4), (least, steps)


@pytest.mark.parametrize("make", ["missing", "empty", "other"])
def test_what_is_no_prepared_data_is_quoted(tmp_path, make):
    path = tmp_path / "data"
    if make != "missing":
        path.mkdir()
    if make == "other":
        (path / "image.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=f"Received: --data_dir={path}"):
        prepared_data.read_info(str(path))


def test_an_epoch_can_begin_at_a_later_step(data):
    records = prepared_data.read_records(data[1], "train")
    whole = _train(records, input_context=_context(replicas=2))
    rest = make_train_dataset(
        records,
        image_size=16,
        batch_size=8,
        input_context=_context(replicas=2),
        epoch=1,
        seed=1,
        first_step=3,
    )
    rest = list(rest.take(len(whole) - 6).as_numpy_iterator())
    for ours, theirs in zip(rest, whole[6:], strict=True):
        for key in ("image", "label", "weight"):
            np.testing.assert_array_equal(ours[key], theirs[key])


def test_positions_count_through_the_shards(tmp_path):
    source = fakes.write_folder(tmp_path / "photos", per_class=25)
    prepare.prepare(str(source), str(tmp_path / "data"), num_shards=4)
    records = prepared_data.read_records(str(tmp_path / "data"), "train")
    positions = [int(e["position"]) for e in records.dataset.as_numpy_iterator()]
    assert positions == list(range(records.count))


@pytest.mark.slow
@pytest.mark.parametrize("pipelines", [1, 3])
def test_a_data_service_gives_every_example_once_an_epoch(tmp_path, pipelines):
    source = fakes.write_folder(tmp_path / "photos", per_class=25)
    prepare.prepare(str(source), str(tmp_path / "data"), num_shards=5)
    records = prepared_data.read_records(str(tmp_path / "data"), "train", cached=False)
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.removeprefix("grpc://")
    config = tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
    workers = [tf.data.experimental.service.WorkerServer(config) for _ in range(2)]
    assert len(workers) == 2
    data_service.check_data_service(dispatcher.target)
    orders = []
    for epoch in (1, 2):
        seen, steps = [], num_batches(records.count, 12)
        for pipeline in range(pipelines):
            *batches, after = list(
                make_train_dataset(
                    records,
                    image_size=16,
                    batch_size=12,
                    epoch=epoch,
                    seed=1,
                    input_context=_context(pipelines, pipeline, replicas=pipelines),
                    data_service=dispatcher.target,
                )
                .take(steps + 1)
                .as_numpy_iterator()
            )
            seen += _counted(batches)
            assert not after["weight"].any()
        assert len(seen) == len(set(seen)) == records.count
        orders.append(seen)
    assert set(orders[0]) == set(orders[1])


@pytest.mark.parametrize("address", ["grpc://localhost:1", "grpc://localhost:port"])
def test_a_data_service_that_is_not_there_is_quoted(address):
    with pytest.raises(ValueError, match=f"Received: --data_service={address}"):
        data_service.check_data_service(address)
