"""`view_image`: by content and not by name, whole or not, and small enough for those who look at it."""

import io
import zlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.scaffolds.world import NoEnvironment
from trellis.tools.catalog import make
from trellis.tools.images import ACCEPTED_BYTES, ACCEPTED_EDGE_PX, first_frame, look
from trellis.tools.tool import Output, Tool, ToolError
from trellis.tools.view_image import SHOWN_EDGE_PX

Pillow = pytest.importorskip("PIL.Image", reason="Pillow makes the images of these tests: pip install pillow")


def drawn(format_: str, width: int = 40, height: int = 30, frames: int = 1, mode: str = "RGB", **options: Any) -> bytes:
    """An image with a red left half."""
    images = []
    for frame in range(frames):
        image = Pillow.new("RGB", (width, height), (0, 0, 50 * frame))
        image.paste((255, 0, 0), (0, 0, width // 2, height))
        images.append(image.convert(mode))
    out = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(out, format_, **more, **options)
    return out.getvalue()


def opened(output: Output) -> Any:
    (image,) = output.images
    return Pillow.open(io.BytesIO(image.data))


@pytest.fixture
def view_image() -> Tool:
    return make(["view_image"])[0]


@pytest.fixture
async def with_pillow(world: Environment) -> Environment:
    if not (await world.exec("python3 -c 'import PIL'")).ok:
        pytest.skip("no Pillow in the world's python3")
    return world


async def refusal(view_image: Tool, world: Environment, path: str) -> str:
    with pytest.raises(ToolError) as caught:
        await view_image(world, path=path)
    return str(caught.value)


# --- as it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WebP"])
@pytest.mark.parametrize("path", ["picture", "picture.txt"])
async def test_an_image_is_shown_as_it_is_whatever_its_name(
    world: Environment, view_image: Tool, name: str, path: str
) -> None:
    data = drawn(name)
    await world.write_file(path, data)
    output = await view_image(world, path=path)
    assert output.text == f"{path}: {name}, 40 x 30 pixels, {len(data):,} bytes"
    (image,) = output.images
    assert (image.data, image.media_type) == (data, f"image/{name.lower()}")
    assert output.data == {"width": 40, "height": 30}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNG", {"mode": "P"}),
        ("PNG", {"mode": "L"}),
        ("PNG", {"mode": "1"}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"mode": "CMYK"}),
        ("JPEG", {"comment": b"x" * 300}),
        ("GIF", {"mode": "L"}),
        ("WebP", {"lossless": True}),
        ("WebP", {"mode": "RGBA"}),
        ("WebP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_sizes_are_read_in_every_variety(name: str, options: dict[str, Any]) -> None:
    picture = look("f", drawn(name, 321, 123, **options))
    assert (picture.format, picture.width, picture.height, picture.animated) == (name, 321, 123, False)


async def test_of_an_animation_the_first_frame_is_shown(world: Environment, view_image: Tool) -> None:
    await world.write_file("a.gif", drawn("GIF", frames=4))
    output = await view_image(world, path="a.gif")
    assert output.text.endswith("; the first of several frames is shown")
    assert opened(output).n_frames == 1
    assert opened(output).convert("RGB").getpixel((35, 5)) == (0, 0, 0)


async def test_of_an_animated_webp_too(with_pillow: Environment, view_image: Tool) -> None:
    await with_pillow.write_file("a", drawn("WebP", frames=3))
    output = await view_image(with_pillow, path="a")
    assert "the first of several frames is shown" in output.text
    assert (opened(output).format, opened(output).size) == ("PNG", (40, 30))


def test_an_animated_png_says_so_and_a_gif_of_one_frame_stays() -> None:
    assert look("f", drawn("PNG", frames=2)).animated
    still = drawn("GIF")
    assert first_frame(still) == still


# --- made smaller ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WebP"])
async def test_a_large_image_is_scaled_down(with_pillow: Environment, view_image: Tool, name: str) -> None:
    await with_pillow.write_file("big", drawn(name, 4000, 1000))
    output = await view_image(with_pillow, path="big")
    assert f"big: {name}, 4000 x 1000 pixels, " in output.text
    assert output.text.endswith(f"; shown at {SHOWN_EDGE_PX} x 392")
    shown = opened(output)
    assert shown.size == (SHOWN_EDGE_PX, 392)
    red, *_ = shown.convert("RGB").getpixel((100, 100))
    assert red > 240
    assert not (await with_pillow.exec('ls "${TMPDIR:-/tmp}" | grep -F .image')).stdout, "nothing is left behind"


async def test_too_many_bytes_become_fewer(with_pillow: Environment, view_image: Tool) -> None:
    out = io.BytesIO()
    Pillow.frombytes("RGB", (1500, 1500), Random(1).randbytes(3 * 1500 * 1500)).save(out, "PNG")
    assert len(out.getvalue()) > ACCEPTED_BYTES
    await with_pillow.write_file("noise.png", out.getvalue())
    (image,) = (await view_image(with_pillow, path="noise.png")).images
    assert len(image.data) <= ACCEPTED_BYTES
    assert image.media_type == "image/jpeg"


async def test_a_photograph_is_turned_the_right_way_up(with_pillow: Environment, view_image: Tool) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    await with_pillow.write_file("photo", drawn("JPEG", 3000, 1500, exif=exif))
    assert opened(await view_image(with_pillow, path="photo")).size == (784, SHOWN_EDGE_PX)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "I;16", "1"])
async def test_every_mode_can_be_made_smaller(with_pillow: Environment, view_image: Tool, mode: str) -> None:
    out = io.BytesIO()
    Pillow.new(mode, (1700, 10)).save(out, "PNG")
    await with_pillow.write_file("f", out.getvalue())
    assert opened(await view_image(with_pillow, path="f")).size == (SHOWN_EDGE_PX, 9)


async def test_a_bomb_is_not_decoded(with_pillow: Environment, view_image: Tool) -> None:
    width = height = 60_000
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    chunks = [
        (b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"),
        (b"IDAT", rows),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )
    await with_pillow.write_file("bomb.png", data)
    message = await refusal(view_image, with_pillow, "bomb.png")
    assert message.startswith("bomb.png has 60000 x 60000 pixels, more than 100,000,000: make a smaller image")


# --- without Pillow in the world -------------------------------------------------------------------------------------


@pytest.fixture
async def bare(tmp_path: Path) -> Any:
    """A world whose `python3` finds no Pillow."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python3").chmod(0o755)
    spec = EnvironmentSpec(kind="local", env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)})
    world = await spec.start(label="tests/tools")
    yield world
    await world.close()


async def test_without_pillow_what_providers_take_passes_and_the_rest_is_refused(
    bare: Environment, view_image: Tool
) -> None:
    await bare.write_file("fits", drawn("PNG", ACCEPTED_EDGE_PX, 10))
    (image,) = (await view_image(bare, path="fits")).images
    assert image.data == drawn("PNG", ACCEPTED_EDGE_PX, 10)
    await bare.write_file("big", drawn("PNG", ACCEPTED_EDGE_PX + 1, 10))
    message = await refusal(view_image, bare, "big")
    assert "big: PNG, 2001 x 10 pixels" in message
    assert "at most 2000 x 2000 pixels" in message
    assert "no Pillow to make it smaller: do that with another command" in message
    await bare.write_file("moves", drawn("WebP", frames=2))
    assert "of one frame can be shown" in await refusal(view_image, bare, "moves")
    await bare.write_file("moves", drawn("GIF", frames=2))
    assert opened(await view_image(bare, path="moves")).n_frames == 1


@pytest.mark.parametrize(
    "does", ["true", "echo garbage > $6", "ln -s $CANARY $6", "mkdir $6", "head -c 9000000 /dev/zero > $6", "exit 7"]
)
async def test_a_python_that_lies_is_a_mistake_like_any_other(
    bare: Environment, view_image: Tool, tmp_path: Path, does: str
) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(drawn("PNG", 10, 10))
    (tmp_path / "python3").write_text(f"#!/bin/sh\nCANARY={canary}\n{does}\n")
    await bare.write_file("big", drawn("PNG", 3000, 10))
    if "CANARY" in does:  # what it could have read itself
        assert opened(await view_image(bare, path="big")).size == (10, 10)
    else:
        assert (await refusal(view_image, bare, "big")).startswith("big ")
    assert canary.read_bytes() == drawn("PNG", 10, 10)


# --- what is no image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "f is empty"),
        (b"hello\n", "f is not an image (6 bytes): only PNG, JPEG, GIF and WebP can be shown"),
        (b"%PDF-1.7\n", "f is a PDF: make an image of a page with a command"),
        (b"<svg xmlns='x'/>", "f is an SVG drawing, which is text: read it with edit"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg/>', "f is an SVG drawing"),
        (b"<?xml version='1.0'?><html/>", "f is not an image"),
        (drawn("BMP"), "f is an image or a film in another format: make a PNG"),
        (drawn("TIFF"), "f is an image or a film in another format"),
        (b"\0\0\0\x1cftypavif", "f is an image or a film in another format"),
        (drawn("PNG")[:-1], "f is a damaged PNG file"),
        (drawn("PNG")[:60] + b"x" + drawn("PNG")[61:], "f is a damaged PNG file: a checksum is wrong"),
        (drawn("JPEG")[:-2], "f is a damaged JPEG file: its end is missing"),
        (b"\xff\xd8\xff", "f is a damaged JPEG file"),
        (drawn("GIF")[:-4], "f is a damaged GIF file"),
        (b"GIF89a" + bytes(7) + b";", "f is a damaged GIF file: it holds no image"),
        (drawn("WebP")[:-1], "f is a damaged WebP file: its end is missing"),
    ],
)
async def test_what_cannot_be_shown_is_said(world: Environment, view_image: Tool, data: bytes, complaint: str) -> None:
    await world.write_file("f", data)
    assert (await refusal(view_image, world, "f")).startswith(complaint)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WebP"]), st.data())
def test_no_bytes_are_more_than_a_mistake(name: str, data: st.DataObject) -> None:
    image = bytearray(drawn(name, 20, 10, frames=1 if name == "JPEG" else 2))
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(image[: data.draw(st.integers(0, len(image)))])
    try:
        picture = look("f", cut)
        if picture.format == "GIF":
            assert look("f", first_frame(cut)).animated is False
    except ToolError:
        pass


async def test_missing_files_and_folders_are_like_edits(world: Environment, view_image: Tool) -> None:
    assert await refusal(view_image, world, "gone.png") == (
        "gone.png does not exist: view the folder to see what is there"
    )
    assert await refusal(view_image, world, ".") == ". is a folder: name a file in it"
    await world.exec("truncate -s 60000000 huge")
    assert "huge has 60,000,000 bytes: make a smaller image" in await refusal(view_image, world, "huge")


async def test_a_task_without_a_world_has_no_files(view_image: Tool) -> None:
    world: Any = NoEnvironment()
    assert "this task has no environment" in await refusal(view_image, world, "f")
