import grpc
import numpy as np
import pytest
from fakes.image_files import png_header
from fakes.server_requests import (
    BLUE,
    GREEN,
    NO_IMAGE,
    call_grpc,
    list_labels,
    make_classify_request,
    make_metadata_request,
    make_predict_request,
    make_spec,
    make_status_request,
)

from export.protocol import messages, tensors

NAME = messages.MODEL_NAME
pytestmark = pytest.mark.slow


def test_a_foreign_client_finds_every_value_in_its_field(server):
    response = call_grpc(
        server, "Predict", make_predict_request([GREEN, NO_IMAGE, BLUE])
    )
    assert response.model_spec == make_spec(
        "version { value: 7 } signature_name: 'serving_default'"
    )
    outputs = response.outputs
    assert sorted(outputs) == ["class_id", "decode_ok", "label", "probabilities"]
    assert list(outputs["label"].string_val) == [b"green", b"", b"blue"]
    assert list(outputs["class_id"].int64_val) == [1, -1, 2]
    assert list(outputs["decode_ok"].bool_val) == [True, False, True]
    assert [dim.size for dim in outputs["probabilities"].tensor_shape.dim] == [3, 3]
    probabilities = np.reshape(outputs["probabilities"].float_val, [3, 3])
    np.testing.assert_allclose(probabilities.sum(axis=1), [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("key", ["version { value: 7 }", "signature_name: ''"])
def test_a_version_and_the_default_signature_may_be_spelt_out(server, key):
    response = call_grpc(server, "Predict", make_predict_request(spec=key))
    assert response.model_spec.signature_name == "serving_default"
    assert list_labels(response) == ["red"]


def test_an_output_filter_chooses_outputs(server):
    request = make_predict_request(output_filter=["label", "class_id"])
    assert sorted(call_grpc(server, "Predict", request).outputs) == [
        "class_id",
        "label",
    ]


@pytest.mark.parametrize("signature", ["serving_default", "predict_strict", "features"])
def test_an_empty_batch_is_answered(server, signature):
    request = make_predict_request([], spec=f"signature_name: '{signature}'")
    outputs = call_grpc(server, "Predict", request).outputs
    assert {key: tensors.to_array(each).shape[0] for key, each in outputs.items()} == (
        dict.fromkeys(outputs, 0)
    )


def test_pixels_as_tensor_content(server):
    pixels = np.zeros([2, 3, 4, 3], np.uint8)
    pixels[0, ..., 2] = pixels[1, ..., 0] = 255
    request = make_predict_request(pixels, "signature_name: 'predict_pixels'", "image")
    assert request.inputs["image"].tensor_content
    assert list_labels(call_grpc(server, "Predict", request)) == ["blue", "red"]


def test_classify_ranks_the_classes(server):
    response = call_grpc(server, "Classify", make_classify_request([GREEN, BLUE]))
    assert response.model_spec == make_spec(
        "version { value: 7 } signature_name: 'classify'"
    )
    ranked = [
        [each.label for each in one.classes] for one in response.result.classifications
    ]
    assert [labels[0] for labels in ranked] == ["green", "blue"]
    assert [len(labels) for labels in ranked] == [3, 3]
    scores = [each.score for each in response.result.classifications[0].classes]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-6)


def test_classify_merges_the_context_into_each_example(server):
    request = make_classify_request([])
    context = request.input.example_list_with_context
    context.context.features.feature["image/encoded"].bytes_list.value.append(GREEN)
    context.examples.add()
    context.examples.add().features.feature["image/encoded"].bytes_list.value.append(
        BLUE
    )
    response = call_grpc(server, "Classify", request)
    labels = [one.classes[0].label for one in response.result.classifications]
    assert labels == ["green", "blue"]


def test_metadata_holds_the_signatures(server):
    request = messages.get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=make_spec(), metadata_field=["signature_def"]
    )
    response = call_grpc(server, "GetModelMetadata", request)
    assert response.model_spec == make_spec("version { value: 7 }")
    found = messages.get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    signature = found.signature_def["classify"]
    assert signature.method_name == "tensorflow/serving/classify"
    assert sorted(signature.outputs) == ["classes", "scores"]


def _regression(*, spec: bool = True):
    module = messages.prediction_service_pb2_grpc
    requests = module.tensorflow__serving_dot_apis_dot_regression__pb2
    return requests.RegressionRequest(model_spec=make_spec() if spec else None)


def _multi_inference():
    module = messages.prediction_service_pb2_grpc
    requests = module.tensorflow__serving_dot_apis_dot_inference__pb2
    return requests.MultiInferenceRequest()


def _broken_tensor(**fields):
    request = make_predict_request()
    request.inputs["image_bytes"].Clear()
    tensor = messages.tensor_pb2.TensorProto(**fields)
    tensor.tensor_shape.dim.add().size = 2
    request.inputs["image_bytes"].CopyFrom(tensor)
    return request


def _two_inputs():
    request = make_predict_request()
    request.inputs["more"].CopyFrom(request.inputs["image_bytes"])
    return request


def _reload():
    module = messages.model_service_pb2_grpc
    requests = module.tensorflow__serving_dot_apis_dot_model__management__pb2
    return requests.ReloadConfigRequest()


_TYPES = messages.types_pb2

# method, request, code, a part of the message
GRPC_ERRORS = {
    "no spec": (
        *("Predict", messages.predict_pb2.PredictRequest()),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "no name": (
        *("Predict", messages.predict_pb2.PredictRequest(model_spec={})),
        *("INVALID_ARGUMENT", "name"),
    ),
    "model": (
        *("Predict", make_predict_request(spec="name: 'other'")),
        *("NOT_FOUND", "other, the newest"),
    ),
    "version": (
        *("Predict", make_predict_request(spec="version { value: 8 }")),
        *("NOT_FOUND", f"{NAME}, 8"),
    ),
    "label": (
        *("Predict", make_predict_request(spec="version_label: 'stable'")),
        *("INVALID_ARGUMENT", "label: stable"),
    ),
    "signature": (
        *("Predict", make_predict_request(spec="signature_name: 'nope'")),
        *("FAILED_PRECONDITION", '"nope"'),
    ),
    "key": (
        *("Predict", make_predict_request(key="bytes")),
        *("INVALID_ARGUMENT", "image_bytes"),
    ),
    "one key more": ("Predict", _two_inputs(), "INVALID_ARGUMENT", "more"),
    "no inputs": (
        *("Predict", messages.predict_pb2.PredictRequest(model_spec=make_spec())),
        *("INVALID_ARGUMENT", "image_bytes"),
    ),
    "dtype": (
        *("Predict", make_predict_request(np.zeros([1], np.float32))),
        *("INVALID_ARGUMENT", "to be string but float"),
    ),
    "rank": (
        *("Predict", make_predict_request(np.array([[b"x"]], object))),
        *("INVALID_ARGUMENT", "[1, 1]"),
    ),
    "channels": (
        "Predict",
        make_predict_request(
            np.zeros([1, 2, 2, 4], np.uint8),
            "signature_name: 'predict_pixels'",
            "image",
        ),
        *("INVALID_ARGUMENT", "image"),
    ),
    "tensor of half the bytes": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_FLOAT, tensor_content=b"1234")),
        *("INVALID_ARGUMENT", "8 bytes"),
    ),
    "tensor out of range": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_UINT8, int_val=[1, 300])),
        *("INVALID_ARGUMENT", "300"),
    ),
    "tensor of a type that is none": (
        *("Predict", _broken_tensor(dtype=99)),
        *("INVALID_ARGUMENT", "99"),
    ),
    "strings as content": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_STRING, tensor_content=b"\1a")),
        *("INVALID_ARGUMENT", "string_val"),
    ),
    "tensor of resources": (
        *("Predict", _broken_tensor(dtype=_TYPES.DT_RESOURCE)),
        *("INVALID_ARGUMENT", "resource"),
    ),
    "output": (
        *("Predict", make_predict_request(output_filter=["nope"])),
        *("INVALID_ARGUMENT", "nope"),
    ),
    "output twice": (
        *("Predict", make_predict_request(output_filter=["label", "label"])),
        *("INVALID_ARGUMENT", "label, label"),
    ),
    "bad image, strict": (
        *(
            "Predict",
            make_predict_request([NO_IMAGE], "signature_name: 'predict_strict'"),
        ),
        *("INVALID_ARGUMENT", "pixels"),
    ),
    "too many pixels": (
        *("Predict", make_predict_request([png_header(9_000, 10_000)] * 9)),
        *("INVALID_ARGUMENT", "810000000 pixels"),
    ),
    "classify too many pixels": (
        *("Classify", make_classify_request([png_header(9_000, 10_000)] * 9)),
        *("INVALID_ARGUMENT", "810000000 pixels"),
    ),
    "classify without spec": (
        *("Classify", messages.classification_pb2.ClassificationRequest()),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "classify by predict": (
        *("Classify", make_classify_request(spec="")),
        *("INVALID_ARGUMENT", "tensorflow/serving/classify"),
    ),
    "classify by nothing": (
        *("Classify", make_classify_request(spec="signature_name: 'nope'")),
        *("INVALID_ARGUMENT", "nope"),
    ),
    "classify nothing": (
        *("Classify", make_classify_request([])),
        *("INVALID_ARGUMENT", "empty"),
    ),
    "classify nothing of another model": (
        *("Classify", make_classify_request([], "name: 'other'")),
        *("NOT_FOUND", "other"),
    ),
    "regress": (
        *("Regress", _regression(), "INVALID_ARGUMENT"),
        "tensorflow/serving/regress",
    ),
    "regress without spec": (
        *("Regress", _regression(spec=False), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "multi-inference": (
        *("MultiInference", _multi_inference(), "UNIMPLEMENTED", "not implemented"),
    ),
    "status without name": (
        "GetModelStatus",
        messages.get_model_status_pb2.GetModelStatusRequest(model_spec={}),
        *("NOT_FOUND", "any versions"),
    ),
    "metadata of nothing": (
        *("GetModelMetadata", make_metadata_request(fields=())),
        *("INVALID_ARGUMENT", "metadata_field"),
    ),
    "metadata unknown": (
        *("GetModelMetadata", make_metadata_request(fields=("weights",))),
        *("INVALID_ARGUMENT", "weights"),
    ),
    "metadata of a model": (
        *("GetModelMetadata", make_metadata_request("name: 'other'")),
        *("NOT_FOUND", "other, the newest"),
    ),
    "status without spec": (
        "GetModelStatus",
        messages.get_model_status_pb2.GetModelStatusRequest(),
        *("INVALID_ARGUMENT", "Missing ModelSpec"),
    ),
    "status of a model": (
        *("GetModelStatus", make_status_request("name: 'other'")),
        *("NOT_FOUND", "of model other"),
    ),
    "status of a version": (
        *("GetModelStatus", make_status_request("version { value: 8 }")),
        *("NOT_FOUND", "version 8"),
    ),
    "reload": (
        "HandleReloadConfigRequest",
        _reload(),
        *("UNIMPLEMENTED", "not implemented"),
    ),
}


@pytest.mark.parametrize("case", GRPC_ERRORS)
def test_codes_over_grpc(server, case):
    method, request, code, words = GRPC_ERRORS[case]
    with pytest.raises(grpc.RpcError) as caught:
        call_grpc(server, method, request)
    assert caught.value.code().name == code
    assert words in caught.value.details()
