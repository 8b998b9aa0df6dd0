import keras
import pytest

from trainer.models import backbones, boundary, freezing

# Backbone -> number of frozen layers, the last of them, and the next layer. All are at
# the end of a block. None: a name that keras counts up in each process.
BOUNDARIES = {
    "MobileNet": (67, "conv_pw_10_relu", "conv_dw_11"),
    "MobileNetV2": (125, "block_13_project_BN", "block_14_expand"),
    "MobileNetV3Small": (124, "expanded_conv_8_project_bn", "expanded_conv_9_expand"),
    "VGG16": (15, "block4_pool", "block5_conv1"),
    "Xception": (106, None, "block12_sepconv1_act"),  # the sum after block 11
    "EfficientNetB0": (191, "block6b_add", "block6c_expand_conv"),
    "DenseNet121": (341, "conv5_block4_concat", "conv5_block5_0_bn"),
    "InceptionV3": (249, "mixed8", None),
    "NASNetMobile": (633, "normal_concat_9", None),
    "ConvNeXtTiny": (
        103,
        "convnext_tiny_stage_2_block_7_identity",
        "convnext_tiny_stage_2_block_8_depthwise_conv",
    ),
    "ResNet101": (273, "conv4_block19_out", "conv4_block20_1_conv"),
    "ResNet50V2": (154, "conv4_block6_out", "conv5_block1_preact_bn"),
}


def test_a_boundary_parts_no_convolution_from_its_activation():
    image = keras.Input((8, 8, 3))
    x = image
    for index in range(10):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{index}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
    backbone = keras.Model(image, x)
    # 31 layers: 24.8 are wanted, and relu_7 is the 25th.
    assert boundary.choose_boundary(backbone) == 25
    assert backbone.layers[24].name == "relu_7"
    # It does not depend on what is frozen at the moment.
    freezing.freeze(backbone, 31)
    assert boundary.choose_boundary(backbone) == 25


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDARIES)
def test_the_default_boundary_is_the_end_of_a_block(name):
    num_layers, last, following = BOUNDARIES[name]
    backbone = backbones.build_backbone(name, {}, image_size=96)
    assert boundary.choose_boundary(backbone) == num_layers
    freezing.freeze(backbone, len(backbone.layers))
    assert boundary.choose_boundary(backbone) == num_layers
    names = [layer.name for layer in backbone.layers]
    assert last in (names[num_layers - 1], None)
    assert following in (names[num_layers], None)
