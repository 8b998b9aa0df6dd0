"""Defines a backbone of 19 layers, with which a run takes half as long.

It is made of the layers of MobileNet: depthwise and pointwise convolutions, each with
its batch norm; its output has 64 channels. Commands in a fork, and train_only.py, know
it as `--backbone=ShallowNet`.
"""

SHALLOW_MODEL_FLAGS = (
    "--recipe=notebook",
    "--backbone=ShallowNet",
    "--weights=random",
    "--image_size=32",
    "--batch_size=8",
    "--head_units=16",
    "--precision=float32",
    # In the middle of the second of three blocks.
    "--freeze_layers=9",
)


def register() -> None:
    """Adds ShallowNet to keras.applications, in which the trainer looks for it."""
    import keras

    def build(*, include_top: bool, weights: None, input_shape: tuple[int, int, int]):
        assert not include_top
        assert weights is None
        inputs = outputs = keras.Input(input_shape)
        for number, filters in enumerate((16, 32, 64), start=1):
            convolutions = {
                "dw": keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
                "pw": keras.layers.Conv2D(filters, 1, strides=2, use_bias=False),
            }
            for kind, convolution in convolutions.items():
                name = f"conv_{kind}_{number}"
                convolution.name = name
                outputs = convolution(outputs)
                outputs = keras.layers.BatchNormalization(name=f"{name}_bn")(outputs)
                outputs = keras.layers.ReLU(6.0, name=f"{name}_relu")(outputs)
        return keras.Model(inputs, outputs, name="shallow_net")

    # The module says which preprocess_input belongs to it.
    build.__module__ = keras.applications.MobileNet.__module__
    keras.applications.ShallowNet = build
