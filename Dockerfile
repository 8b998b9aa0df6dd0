# The image for training, which trainer/cluster/kubernetes.yaml runs:
#
#   docker build --tag photograph-classifier:0.3.0 .
#   docker build --tag photograph-classifier:0.3.0 --build-arg EXTRAS= .    # without CUDA
#   docker run --rm --gpus all --volume "$PWD/storage:/storage" \
#     photograph-classifier:0.3.0 --source=/storage/photographs --model_dir=/storage/run
#
# The user 1000 of the container must be able to write to the mounted directory.
FROM python:3.11-slim

# The extra brings NVIDIA's libraries as packages. The host needs the driver alone.
ARG EXTRAS=gpu

# TensorFlow, Keras and matplotlib write their caches below the home directory.
RUN useradd --create-home --uid 1000 trainer

WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY trainer trainer
COPY export export
RUN python -m pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}" && rm -rf build

USER trainer
WORKDIR /home/trainer
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["photograph-train"]
