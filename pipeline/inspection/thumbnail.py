"""Makes the small pictures of HTML pages."""

import base64
import io

from PIL import Image

from pipeline.inspection import reencoding


def make_thumbnail(
    image_bytes: bytes, side_px: int, *, sample_bits: int | None = None
) -> str:
    """Returns a small JPEG, in base64, of an encoded image as it would be stored.

    side_px: largest side of the small picture.
    sample_bits: see reencoding.bytes_to_store.

    Raises:
      OSError, ValueError, SyntaxError: Pillow cannot decode the image.
    """
    stored = reencoding.bytes_to_store(
        image_bytes, max_side_px=None, sample_bits=sample_bits
    )
    with Image.open(io.BytesIO(stored)) as image:
        image.draft("RGB", (side_px, side_px))
        small = image.convert("RGB")
    small.thumbnail((side_px, side_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
