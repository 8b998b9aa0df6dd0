"""Turns the best weights of a run into a model that TensorFlow Serving runs.

The way of one version, in the order of export_run.export_run():

| step                                   | file                                     |
|----------------------------------------|------------------------------------------|
| load the finished run                  | trainer/training/run_dir.py              |
| fold batch norm into the convolutions  | version/folding.py                       |
| lower the precision, measure its cost  | version/reduced_precision.py             |
| build the signatures                   | graph/ (signatures, decoding, headers)   |
| write the SavedModel                   | version/write.py                         |
| add the warm-up requests               | version/warmup.py                        |
| add labels and the model card          | version/model_card.py                    |
| check it, through the C API            | checks/, c_api/                          |
| add what its validation images are     | version/reference.py                     |
| publish it as the next version         | version/publish.py                       |
| write the files that start servers     | version/server_files.py                  |

Around it:

main.py: the command `python -m export.main`, which exports a run or rolls back.
protocol/: messages, tensors and status codes that client, server and checks share.
c_api/: runs a SavedModel on TensorFlow's C API, without Python's TensorFlow.
local_server/, serve.py: answers REST and gRPC as TensorFlow Serving does.
drift_check/, drift.py: compares new photographs with those of the validation.
demo.py: runs the commands from drawn pictures to answers.
remote/, client.py: sends images to a server and prints its answers.
"""
