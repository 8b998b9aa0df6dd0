"""Makes the small pictures of HTML pages."""

import base64
import dataclasses
import io

from PIL import Image

from pipeline.inspection import reencoding
from pipeline.inspection.reencoding import StoredForm


def make_thumbnail(
    image_bytes: bytes, side_px: int, form: StoredForm = StoredForm()
) -> str:
    """Returns a small JPEG, in base64, of an encoded image as it would be stored.

    side_px: the longer side of the small picture, at most.
    form: how it would be stored, but for the size.

    Raises:
      OSError, ValueError, SyntaxError: Pillow cannot decode the image.
    """
    form = dataclasses.replace(form, max_side_px=None)
    stored = reencoding.bytes_to_store(image_bytes, form)
    with Image.open(io.BytesIO(stored)) as image:
        image.draft("RGB", (side_px, side_px))
        small = image.convert("RGB")
    small.thumbnail((side_px, side_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
