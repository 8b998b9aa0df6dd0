"""Converts images to sRGB if their colour profile makes a visible difference.

TensorFlow and most other programs for training ignore colour profiles, so they see a
wide-gamut photograph in slightly dull colours. Only a photograph that would look wrong
to a person is converted.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

# An image is converted if the mean difference of its colours is larger, range [0, 255].
VISIBLE_DIFFERENCE = 8.0

_SAMPLE_PX = 64
# Colour space of a profile -> mode of its images in Pillow.
_MODE_OF_SPACE = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}
# Values of each channel in the colours on which a profile is compared with sRGB: 9 ** 3
# colours, or 9 ** 4 with four channels.
_STEPS = np.linspace(0, 255, 9).astype(np.uint8)


def may_differ(opened: Image.Image) -> bool:
    """Tells by the header whether the colour profile may make a visible difference.

    It does not if there is none, if it is damaged, or if it is close to sRGB.
    """
    return _find_transform(opened.info.get("icc_profile")) is not None


def measure_difference(image: Image.Image) -> float:
    """Returns the mean difference of the colours without and with the profile.

    The range is [0, 255]; the result is 0 without a profile that can be used.

    image: an opened image. A JPEG is decoded smaller, and stays smaller afterwards.
    """
    transform = _find_transform(image.info.get("icc_profile"))
    if transform is None:
        return 0.0
    image.draft("RGB", (_SAMPLE_PX, _SAMPLE_PX))
    small = _to_mode(image, transform)
    if small is None:
        return 0.0
    small.thumbnail((_SAMPLE_PX, _SAMPLE_PX))
    return _difference(small, transform)


def describe_profile(image: Image.Image) -> str:
    """Returns the name of the colour profile of an image, in at most 40 characters."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        name = " ".join(ImageCms.getProfileDescription(profile).split())
    except (ImageCms.PyCMSError, OSError, KeyError):
        name = ""
    return name[:40] or "colour profile"


def convert_to_srgb(image: Image.Image) -> Image.Image:
    """Returns the image as "RGB" in sRGB, by its own profile.

    An image whose profile cannot be used is returned as it is.
    """
    transform = _find_transform(image.info.get("icc_profile"))
    in_mode = None if transform is None else _to_mode(image, transform)
    if transform is None or in_mode is None:
        return image
    converted = ImageCms.applyTransform(in_mode, transform)
    assert converted is not None  # It is None only with inPlace=True.
    return converted


def _to_mode(
    image: Image.Image, transform: ImageCms.ImageCmsTransform
) -> Image.Image | None:
    """Returns the image in the mode of its profile; None if the two do not fit."""
    mode = transform.input_mode
    if image.mode == mode:
        return image
    if mode == "RGB" and image.mode in ("P", "RGBA", "RGBX", "PA"):
        return image.convert("RGB")
    if mode == "L" and image.mode in ("1", "LA"):
        return image.convert("L")
    return None


@functools.lru_cache(maxsize=64)
def _find_transform(profile_bytes: bytes | None) -> ImageCms.ImageCmsTransform | None:
    """Returns the transform to sRGB; None if it is not needed or cannot be made."""
    if not profile_bytes:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        mode = _MODE_OF_SPACE.get(profile.profile.xcolor_space.strip())
        if mode is None:
            return None
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB"
        )
        colours = np.stack(
            np.meshgrid(*[_STEPS] * len(Image.new(mode, (1, 1)).getbands())), -1
        )
        colours = colours.reshape(len(_STEPS), -1, colours.shape[-1])
        grid = Image.fromarray(colours if mode != "L" else colours[..., 0], mode)
        is_needed = _difference(grid, transform, largest=True) > VISIBLE_DIFFERENCE
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if is_needed else None


def _difference(
    image: Image.Image, transform: ImageCms.ImageCmsTransform, *, largest: bool = False
) -> float:
    """Returns the mean difference of an image, or that of its worst pixel."""
    managed = ImageCms.applyTransform(image, transform)
    pixels = np.asarray(image.convert("RGB"), np.int16)
    differences = np.abs(np.asarray(managed, np.int16) - pixels).mean(axis=-1)
    return float(differences.max() if largest else differences.mean())
