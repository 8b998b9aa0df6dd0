"""Fine-tunes MobileNet (alpha 0.25) with fastai, from Keras' weights.

`python benchmarks/fastai_peer.py SPLIT.csv BACKBONE.npz`, in an environment with
fastai and PyTorch; recipe_peers.py writes both files. All that fastai chooses by itself
is left to it: the augmentation, the head, the optimizer and the rates of fine_tune().
20 epochs, and batches of 16 instead of 64 below 320 photographs, because fastai drops
the rest of an epoch. Prints {"test": accuracy} on its last line.
"""

import json
import sys

import numpy as np
import pandas as pd
import torch
from fastai.vision import all as vision
from torch import nn

EPOCHS = 20
WIDTHS = (16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def convolution(before, after, *, kernel, stride, groups=1):
    """Returns a convolution as Keras' MobileNet has it, with batch norm and ReLU 6."""
    if kernel == 1:
        padding = nn.Identity()
    else:  # Keras pads right and below when it strides, and all round otherwise.
        padding = nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1)
    layer = nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(
        padding, layer, nn.BatchNorm2d(after, eps=1e-3, momentum=0.01), nn.ReLU6()
    )


def build_backbone(arrays):
    """Returns the network with the arrays of Keras' get_weights(), in their order."""
    blocks = [convolution(3, 8, kernel=3, stride=2)]
    before = 8
    for after, stride in zip(WIDTHS, STRIDES, strict=True):
        blocks += [
            convolution(before, before, kernel=3, stride=stride, groups=before),
            convolution(before, after, kernel=1, stride=1),
        ]
        before = after
    remaining = iter(arrays)
    for block in blocks:
        kernel = torch.from_numpy(next(remaining))
        # Keras: [H, W, in, out], depthwise [H, W, in, 1]; PyTorch: [out, in, H, W].
        depthwise = block[1].groups > 1
        block[1].weight.data = kernel.permute(*((2, 3) if depthwise else (3, 2)), 0, 1)
        norm = block[2]
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data = torch.from_numpy(next(remaining))
    return nn.Sequential(*blocks)


def main(csv_path, arrays_path):
    torch.manual_seed(1)
    vision.set_seed(1)
    stored = np.load(arrays_path)
    num_arrays = len(stored.files) - 2
    body = build_backbone(stored[f"arr_{i}"] for i in range(num_arrays))
    with torch.no_grad():
        found = body.eval()(torch.from_numpy(stored["probe"]).permute(0, 3, 1, 2))
    difference = np.abs(found.permute(0, 2, 3, 1).numpy() - stored["features"]).max()
    assert difference < 1e-3, f"the network differs from Keras' by {difference}"
    table = pd.read_csv(csv_path)
    drawn = table[table["split"] != "test"].copy()
    drawn["is_valid"] = drawn["split"] == "validation"
    num_train = int((~drawn["is_valid"]).sum())
    loaders = vision.ImageDataLoaders.from_df(
        drawn,
        path="/",
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        item_tfms=vision.Resize(224, method=vision.ResizeMethod.Squish),
        batch_tfms=[
            *vision.aug_transforms(),
            vision.Normalize.from_stats([0.5] * 3, [0.5] * 3),
        ],
        bs=16 if num_train < 320 else 64,
        num_workers=0,
    )
    head = vision.create_head(WIDTHS[-1], loaders.c)
    model = nn.Sequential(body, head)
    vision.apply_init(head, nn.init.kaiming_normal_)
    learner = vision.Learner(
        loaders,
        model,
        loss_func=vision.CrossEntropyLossFlat(),
        splitter=vision.default_split,
        metrics=vision.accuracy,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        test = table[table["split"] == "test"]
        probabilities, _ = learner.get_preds(
            dl=loaders.test_dl(test["path"].tolist(), num_workers=0)
        )
    labels = np.array(loaders.vocab)[probabilities.argmax(dim=1).numpy()]
    print(json.dumps({"test": float((labels == test["label"].to_numpy()).mean())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
