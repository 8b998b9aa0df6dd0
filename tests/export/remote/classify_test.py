import functools
import threading
import time

import grpc
import pytest
from fakes.stub_servers import GrpcStub

from export.protocol.status import Code, StatusError
from export.remote import classify, transports
from pipeline.inspection.reencoding import StoredForm


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """Twelve files; the contents are their numbers."""
    for index in range(12):
        (tmp_path / f"{index:02d}.jpg").write_bytes(str(index).encode())
    return [str(path) for path in sorted(tmp_path.iterdir())]


def _outputs(images: list[bytes]) -> dict[str, list]:
    numbers = [int(image) for image in images]
    return {
        "probabilities": [[0.25, 0.75] for _ in numbers],
        "class_id": numbers,
        "label": [f"class {number}" for number in numbers],
        "decode_ok": [True for _ in numbers],
    }


def _classify(predict, paths, *, batch_size=8, in_flight=4, seconds=30.0):
    return classify.classify(
        predict, paths, batch_size=batch_size, in_flight=in_flight, seconds=seconds
    )


def _classify_by_grpc(server: GrpcStub, paths, **options) -> list[classify.Reply]:
    with grpc.insecure_channel(server.address) as channel:
        predict = functools.partial(transports.predict_by_grpc, channel)
        return list(_classify(predict, paths, **options))


def test_the_replies_have_the_order_of_the_paths(paths):
    def predict(images, seconds):
        time.sleep(0.05 if b"0" in images else 0.0)  # the first batch comes last
        return _outputs(images)

    replies = list(_classify(predict, paths, batch_size=2, in_flight=6))
    rows = [row for reply in replies for row in reply.rows]
    assert [len(reply.rows) for reply in replies] == [2] * 6
    assert [row["name"] for row in rows] == paths
    assert [row["class_id"] for row in rows] == list(range(12))
    assert replies[0].seconds >= 0.05
    assert rows[3] == {
        "name": paths[3],
        "decode_ok": True,
        "label": "class 3",
        "class_id": 3,
        "probability": 0.75,
        "probabilities": [0.25, 0.75],
    }


def test_newer_outputs_are_in_the_rows_and_must_be_whole(paths):
    newer = {
        "in_set": [[True, False], [True, True]],
        "unknown_score": [-3.5, 2.0],
        "is_unknown": [False, True],
    }
    (reply,) = _classify(lambda images, seconds: _outputs(images) | newer, paths[:2])
    found = [{key: row[key] for key in newer} for row in reply.rows]
    assert found == [
        {"in_set": [True, False], "unknown_score": -3.5, "is_unknown": False},
        {"in_set": [True, True], "unknown_score": 2.0, "is_unknown": True},
    ]
    short = newer | {"is_unknown": [True]}
    with pytest.raises(StatusError, match="for each image"):
        list(_classify(lambda images, seconds: _outputs(images) | short, paths[:2]))


def test_a_file_that_cannot_be_read_has_its_own_row(paths, tmp_path):
    def predict(images, seconds):
        return _outputs(images) | {"decode_ok": [False, True]}

    missing = str(tmp_path / "missing.jpg")
    (reply,) = _classify(predict, [paths[5], missing, paths[7]])
    first, no_file, second = reply.rows
    assert no_file == {"name": missing, "error": "No such file or directory"}
    assert (first["class_id"], first["error"]) == (5, "not decodable")
    assert (second["class_id"], "error" in second) == (7, False)


def test_nothing_is_sent_if_no_file_can_be_read(tmp_path):
    def predict(images, seconds):
        raise AssertionError("nothing to send")

    (reply,) = _classify(predict, [str(tmp_path / "missing.jpg")])
    assert reply.seconds == 0
    assert [row["error"] for row in reply.rows] == ["No such file or directory"]


@pytest.mark.parametrize(
    ("outputs", "received"),
    [
        ({}, "none of them"),
        ({"label": ["x"]}, "label"),
        (_outputs([b"1"]) | {"label": ["x", "y"]}, "class_id, decode_ok, label"),
        (_outputs([b"1"]) | {"decode_ok": True}, "class_id, decode_ok, label"),
    ],
)
def test_outputs_that_are_none_of_an_export_are_an_error(paths, outputs, received):
    message = f"serving_default must return .* for each image. Received: {received}"
    with pytest.raises(StatusError, match=message) as raised:
        list(_classify(lambda images, seconds: outputs, paths[:1]))
    assert raised.value.code == Code.INTERNAL


def test_batches_and_requests_in_flight_are_as_many_as_asked_for(paths):
    with GrpcStub(lambda call, images: time.sleep(0.1)) as server:
        _classify_by_grpc(server, paths, batch_size=2, in_flight=3)
    assert [len(batch) for batch in server.batches] == [2] * 6
    assert server.most_running_calls == 3


def test_an_unavailable_server_is_asked_again(paths):
    def decide(call, images):
        return grpc.StatusCode.UNAVAILABLE if call < 3 else None

    with GrpcStub(decide) as server:
        replies = _classify_by_grpc(server, paths)
    assert [len(reply.rows) for reply in replies] == [8, 4]
    assert len(server.batches) == 5
    assert 20 < min(server.remaining_seconds) < max(server.remaining_seconds) < 31


def test_a_server_that_stays_unavailable_is_reported_and_given_up(
    paths, capsys, monkeypatch
):
    # Pauses of 0.05, 0.1, 0.2, 0.4 and 0.8 seconds; the next one would be too long.
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    calls = []

    def predict(images, seconds):
        calls.append(seconds)
        raise StatusError(Code.UNAVAILABLE, "nobody there")

    classify._print_once.cache_clear()
    with pytest.raises(StatusError, match="nobody there"):
        list(_classify(predict, paths[:1], seconds=2.0))
    assert capsys.readouterr().err == "not answered yet: nobody there\n"
    assert len(calls) == 6
    assert calls == sorted(calls, reverse=True)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"])
def test_another_error_is_final_and_earlier_replies_are_yielded(paths, code):
    def predict(images, seconds):
        if b"4" in images:
            raise StatusError(Code[code], "text")
        return _outputs(images)

    replies = _classify(predict, paths, batch_size=2, in_flight=1)
    assert [row["name"] for row in next(replies).rows] == paths[:2]
    assert [row["name"] for row in next(replies).rows] == paths[2:4]
    message = f"no answer for {paths[4]} and 1 more: text"
    with pytest.raises(StatusError, match=message) as raised:
        next(replies)
    assert raised.value.code == Code[code]


def test_retries_end_when_the_caller_stops(paths):
    stop = threading.Event()

    def predict(images, seconds):
        stop.set()
        raise StatusError(Code.UNAVAILABLE, "text")

    with pytest.raises(StatusError):
        classify.classify_batch(predict, paths, 60.0, stop, find_form=StoredForm)


def test_a_server_that_is_too_slow_is_given_up(paths):
    with (
        GrpcStub(lambda call, images: time.sleep(1)) as server,
        pytest.raises(StatusError) as raised,
    ):
        _classify_by_grpc(server, paths, seconds=0.3)
    assert raised.value.code == Code.DEADLINE_EXCEEDED
    assert max(server.remaining_seconds) < 1


def _ask_for_form(predict):
    return classify.ask_for_stored_form(predict, 5.0, threading.Event())


def test_the_model_tells_how_its_images_were_stored():
    def predict(images, seconds, *, signature):
        assert (images, signature) == ([b""], "preparation")
        return {"background": ["black"], "sample_bits": [12]}

    form = StoredForm(background="black", sample_bits=12)
    assert _ask_for_form(predict) == form


@pytest.mark.parametrize("code", [Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT])
def test_a_model_that_cannot_tell_has_the_defaults(code):
    def predict(images, seconds, *, signature):
        raise StatusError(code, "no such signature")

    assert _ask_for_form(predict) == StoredForm()


def test_a_server_that_does_not_tell_is_an_error():
    def predict(images, seconds, *, signature):
        raise StatusError(Code.NOT_FOUND, "no such model")

    with pytest.raises(StatusError, match="no such model"):
        _ask_for_form(predict)
