import fakes
import pytest

from export.protocol import messages
from export.protocol.messages import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    meta_graph_pb2,
)


def test_fields_that_are_not_set_are_shown():
    status = get_model_status_pb2.ModelVersionStatus(version=3, state="LOADING")
    response = get_model_status_pb2.GetModelStatusResponse(
        model_version_status=[status]
    )
    assert messages.to_dict(response)["model_version_status"] == [
        {"version": "3", "state": "LOADING"}
    ]
    assert messages.to_dict(get_model_status_pb2.GetModelStatusResponse()) == {
        "model_version_status": []
    }


def test_packed_signatures_are_unpacked():
    signatures = get_model_metadata_pb2.SignatureDefMap(
        signature_def={"x": meta_graph_pb2.SignatureDef(method_name="m")}
    )
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = "photographs"
    response.metadata["signature_def"].Pack(signatures)
    metadata = messages.metadata_to_dict(response)
    assert metadata["model_spec"]["name"] == "photographs"
    signature = metadata["metadata"]["signature_def"]["signature_def"]["x"]
    assert signature["method_name"] == "m"


@pytest.mark.slow
def test_tensorflow_can_be_imported_afterwards():
    script = (
        "import sys; from export.protocol import messages; "
        "assert 'tensorflow' not in sys.modules; "
        "import tensorflow as tf; print(tf.constant(3).numpy())"
    )
    completed = fakes.run("-c", script)
    assert (completed.returncode, completed.stdout) == (0, "3\n"), completed.stderr
