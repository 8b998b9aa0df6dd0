"""Makes the small pictures of HTML pages."""

import base64
import io

from PIL import Image, ImageOps


def make_thumbnail(image_bytes: bytes, side_px: int) -> str:
    """Returns a small JPEG of an encoded image, upright, in base64.

    side_px: the longer side of the small picture, at most.

    Raises:
      OSError, ValueError, SyntaxError: Pillow cannot decode the image.
    """
    with Image.open(io.BytesIO(image_bytes)) as image:
        image.draft("RGB", (side_px, side_px))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((side_px, side_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
