"""`view_image`: shows an image file of the world to the model.

Nothing is decoded on the host, where keys and other episodes are: libraries that decode images have had holes, and the
bytes are an agent's. The host reads headers (`tools/images.py`). What must be made smaller is made so inside the world,
by its own python3 with Pillow, under the world's limits; the result is untrusted like any other file and is looked at
again. Where the world has no Pillow, an image that providers take passes as it is, and a larger one is refused.
"""

from __future__ import annotations

import hashlib

from trellis.environments.environment import Environment
from trellis.models.messages import Image
from trellis.tools import files
from trellis.tools.arguments import Path
from trellis.tools.clip import temporary_folder
from trellis.tools.images import ACCEPTED_BYTES, ACCEPTED_EDGE_PX, Picture, first_frame, fits, look
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

SHOWN_EDGE_PX = 1568
"""A longer edge is scaled down to this. Anthropic does so before the model sees the image ("Vision: evaluate image
size"); OpenAI fits it into 2,048."""

LARGEST_BYTES = 50_000_000
LARGEST_PIXELS = 100_000_000
"""What is decoded at most: about 400 MB of memory in the world."""

DEADLINE_S = 60.0

# Makes an image smaller, into a new file. Exits with 3 without Pillow, with 4 if it cannot be done.
_SHRINK = r"""
import contextlib, io, os, sys, warnings
try:
    from PIL import Image, ImageOps
except ImportError:
    sys.exit(3)
source, target, edge, most, pixels = *sys.argv[1:3], *map(int, sys.argv[3:])
Image.MAX_IMAGE_PIXELS = pixels
warnings.simplefilter("error", Image.DecompressionBombWarning)
try:
    image = Image.open(source, formats=["PNG", "JPEG", "GIF", "WEBP"])
    jpeg = image.format == "JPEG"
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if not jpeg:
        image.save(out, "PNG", optimize=True)
    quality = 90
    while (jpeg or out.tell() > most) and quality > 20:
        out = io.BytesIO()
        plain = Image.new("RGB", image.size, "white")
        plain.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
        plain.save(out, "JPEG", quality=quality)
        jpeg, quality = False, quality - 15
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    with open(target, "xb") as file:
        file.write(out.getvalue())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(4)
"""


async def view_image(environment: Environment, path: Path) -> Output:
    """Look at an image file: PNG, JPEG, GIF (its first frame) or WebP. A large one is scaled down.

    Args:
        path: the file; relative paths start at the workdir.
    """
    (known,) = await files.facts(environment, [path])
    if known.kind == "file" and known.size > LARGEST_BYTES:
        raise ToolError(f"{path} has {known.size:,} bytes: make a smaller image of it with a command")
    data = await files.read(environment, path)
    picture = look(path, data)
    about = f"{path}: {picture.format}, {picture.width} x {picture.height} pixels, {len(data):,} bytes"
    shown, remark = data, ""
    if picture.animated:
        remark = "; the first of several frames is shown"
        if picture.format == "GIF":
            shown = first_frame(data)
    if not fits(picture, shown, SHOWN_EDGE_PX) or (picture.animated and picture.format == "WebP"):
        smaller = await _smaller(environment, path, known, data, picture)
        if smaller is not None:
            shown, picture = smaller
            remark += f"; shown at {picture.width} x {picture.height}"
        elif not fits(picture, shown, ACCEPTED_EDGE_PX) or picture.animated:
            raise ToolError(
                f"{about}: at most {ACCEPTED_EDGE_PX} x {ACCEPTED_EDGE_PX} pixels and {ACCEPTED_BYTES:,} bytes of one "
                "frame can be shown, and the environment's python3 has no Pillow to make it smaller: do that with "
                "another command"
            )
    size = {"width": picture.width, "height": picture.height}
    return Output(about + remark, images=(Image(shown, picture.media_type),), data=size)


async def _smaller(
    environment: Environment, path: str, known: files.Facts, data: bytes, picture: Picture
) -> tuple[bytes, Picture] | None:
    """The image made smaller inside the world; None where that has no Pillow.

    Raises:
        ToolError: it has too many pixels, or cannot be decoded.
    """
    if picture.width * picture.height > LARGEST_PIXELS:
        raise ToolError(
            f"{path} has {picture.width} x {picture.height} pixels, more than {LARGEST_PIXELS:,}: make a smaller image "
            "of it, or of a part of it, with a command"
        )
    target = f"{await temporary_folder(environment)}/shown-{hashlib.sha256(data).hexdigest()[:24]}.image"
    numbers = map(str, (SHOWN_EDGE_PX, ACCEPTED_BYTES, LARGEST_PIXELS))
    command = ["python3", "-I", "-B", "-c", _SHRINK, known.path, target, *numbers]
    result = await environment.exec(command, timeout_s=DEADLINE_S)
    if result.exit_code in (3, 127):
        return None
    if not result.ok:
        why = f"it took more than {DEADLINE_S:g} s" if result.timed_out else result.text.strip()[:300]
        raise ToolError(f"{path} cannot be made smaller: {why}. Try it with another command")
    try:
        (made,) = await files.facts(environment, [target])
        shown = await environment.read_file(target) if made.size <= ACCEPTED_BYTES else b""
    except OSError:
        shown = b""
    finally:  # only ever a name that was chosen here: what the world says is never removed
        await environment.exec(["rm", "-f", "--", target], timeout_s=60)
    smaller = look(path, shown) if shown else None
    if smaller is None or smaller.animated or not fits(smaller, shown, SHOWN_EDGE_PX):
        raise ToolError(f"{path} cannot be made small enough to be shown: make a smaller image of it with a command")
    return shown, smaller


def make() -> FunctionTool:
    return tool(view_image)
