import json

import fakes
import numpy as np
import pytest
from fakes.load import Load, list_states, wait_until
from fakes.server_requests import call_grpc, make_predict_request

from export.c_api.session import Session


@pytest.mark.slow
def test_from_photographs_to_answers_and_on_to_the_next_version_and_back(tmp_path):
    photographs = fakes.write_folder(tmp_path / "photographs", per_class=25)
    run, export_dir = tmp_path / "run", tmp_path / "export"
    done = fakes.run_fork(
        *("-m", "trainer.main", *fakes.SHALLOW_MODEL_FLAGS, "--regimes=head"),
        *("--head_epochs=1", f"--source={photographs}", f"--model_dir={run}"),
        f"--export_dir={export_dir}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (first,) = (int(each.name) for each in export_dir.iterdir() if each.name.isdigit())
    images = sorted(photographs.rglob("*.jpg"))
    direct = Session(str(export_dir / str(first)))
    expected = direct.run(
        "serving_default",
        {"image_bytes": np.array([image.read_bytes() for image in images], object)},
    )
    direct.close()
    with fakes.Server(export_dir) as server:
        for flags in (
            ("--protocol=grpc", f"--server={server.grpc}"),
            ("--protocol=rest", f"--server={server.rest}"),
        ):
            done = fakes.run("-m", "export.client", *flags, "--json", str(photographs))
            assert done.returncode == 0, done.stderr
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert [row["name"] for row in rows] == [*map(str, images)]
            assert [row["label"].encode() for row in rows] == expected["label"].tolist()
            np.testing.assert_allclose(
                [row["probabilities"] for row in rows],
                expected["probabilities"],
                atol=1e-5,
            )

        def labelled(label: str) -> int:
            request = make_predict_request(spec=f"version_label: '{label}'")
            return call_grpc(server, "Predict", request).model_spec.version.value

        assert labelled("stable") == first
        with Load(server, pause_seconds=0.01) as load:
            flag = f"--export_dir={export_dir}"
            done = fakes.run_fork("-m", "export.main", f"--model_dir={run}", flag)
            assert done.returncode == 0, done.stderr[-2000:]
            server.wait_for("loaded in", count=2)
            second = max(list_states(server))
            wait_until(lambda: labelled("stable") == second)
            assert labelled("previous") == first
            done = fakes.run_fork("-m", "export.main", "--rollback", flag)
            assert done.returncode == 0, done.stderr[-2000:]
            server.wait_for(f"version {second} unloaded")
            assert labelled("stable") == first
    assert load.errors == []
    assert {first, second} < {key[0] for key in load.answers}
