"""Reading a picture: one function that knows its mode, its range and its EXIF orientation, and says what it changed.

The stored pixels are not always those that the annotator saw: a phone stores them lying on their side and says so in
EXIF, a microscope writes 12 bits into 16. Pillow's `convert("RGB")` clips the second to white and ignores the first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from labelkit.checks import is_finite

MAX_MEGAPIXELS = 500  # of one picture; in place of Pillow's guard, which warns at 89 and refuses from 179 on
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # of the files that a listing takes for pictures
ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = _TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", *_ALPHA)

Size = tuple[int, int]  # width, height


class Header(NamedTuple):
    """What a file says before its pixels are read. `full` is the largest value of its type, None for up to 8 bits."""

    stored: Size
    orientation: int
    mode: str
    full: float | None
    alpha: bool
    frames: int

    @property
    def shown(self) -> Size:
        """The size as browsers and annotation tools show it: EXIF orientations 5 to 8 swap the sides."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    def turned(self, size: Size | None = None) -> bool:
        """Is the picture to be turned by its EXIF orientation, for boxes in a picture of this size?

        Where both sizes fit, yes: browsers and annotation tools show it so (pycocotools and torchvision do not).
        """
        return self.orientation > 1 and (size in (None, self.shown))

    def changes(self) -> list[tuple[str, str]]:
        """What reading does to these pixels beside turning them, as (kind, sentence)."""
        found = []
        if self.full is not None:
            found.append(("more than 8 bits", f"values of mode {self.mode} are divided by {self.full:.10g}"))
        if self.alpha:
            found.append(("transparency", "transparent pixels are laid over white"))
        if self.mode in ("CMYK", "YCbCr", "HSV"):
            found.append(("colours", f"{self.mode} is converted to RGB"))
        if self.frames > 1:
            found.append(("several frames", f"the first of {self.frames} frames is read"))
        return found


def read_header(path: str | os.PathLike) -> Header:
    """Size, mode and orientation, without the pixels. Raises `OSError` that names the file, as `read_picture` does."""
    with _opened(path) as image:
        return _header(image)


def read_picture(path: str | os.PathLike, size: Size | None = None, *, white: float | None = None) -> Tensor:
    """The pixels that the annotator saw, `[3, H, W]`: uint8, or float32 in 0..1 where the file holds more than 8 bits.

    Args:
        size: (width, height) that the annotation states. It decides whether the picture is turned by its EXIF
            orientation: see `Header.turned`. Without it, it is.
        white: the value that becomes 1 in a file of more than 8 bits, such as 4095 for 12 bits in a 16-bit PNG.
            Without it, the largest value of the file's type: 65535 for 16 bits, 1 for floats.

    Grey becomes three equal channels, transparency is laid over white, CMYK and palettes become RGB, of several
    frames the first is read.

    Raises:
        ValueError: white is no positive number.
        OSError: naming the file: it is no picture, cut short, damaged, larger than `MAX_MEGAPIXELS`, of another size
            than stated, or holds floats above 1, or NaN, whose white nobody stated.
    """
    check_white(white)
    with _opened(path) as image:
        header = _header(image)
        if size is not None and size not in (header.stored, header.shown):
            raise ValueError(wrong_size(header, size))
        pixels = _oriented(image, header, header.turned(size))
        if header.full is None:
            return tv_tensors.Image(F.pil_to_tensor(_rgb(pixels, header.alpha)))
        values: np.ndarray = np.asarray(pixels, dtype=np.float64 if header.mode == "I" else np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are NaN or infinite")
        if header.mode == "F" and white is None and values.max(initial=0) > 1:
            raise ValueError(f"its floats reach {values.max():.6g}, and nobody says which value is white: pass white=")
        grey = torch.from_numpy((values / (white or header.full)).clip(0, 1).astype(np.float32))
        return tv_tensors.Image(grey.expand(3, -1, -1).contiguous())


def check_white(white: Any, name: str = "white") -> None:
    """A `ValueError` for what is no value of white: a positive number, or None where nobody says."""
    if white is not None and not (is_finite(white) and white > 0):
        raise ValueError(f"{name} must be a positive number, got {white!r}")


def wrong_size(header: Header, size: Size) -> str:
    """The sentence on a picture that has not the size that was stated, turned or not."""
    width, height = header.stored
    message = f"it has {width} x {height} pixels, the annotation says {size[0]} x {size[1]}"
    if header.orientation > 1:
        turned = " x ".join(map(str, header.shown))
        message += f" (its EXIF orientation is {header.orientation}; turned by that it has {turned})"
    return message


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The open picture. Whatever happens in the block leaves as an `OSError` that names the file."""
    try:
        # By an open file: Pillow maps an uncompressed TIFF that it gets by name, and turns it wrongly then.
        with open(path, "rb") as file, _pillows_guard_off(), Image.open(file) as image:
            if image.width * image.height > MAX_MEGAPIXELS * 10**6:
                raise ValueError(
                    f"its {image.width} x {image.height} pixels are more than the {MAX_MEGAPIXELS} megapixels that "
                    "labelkit reads at once: cut it into tiles"
                )
            yield image
    except Exception as error:  # decoders raise anything on damaged bytes
        reason = "it is no picture that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else error
        raise OSError(f"{os.fspath(path)}: cannot be read: {reason}") from error


_guard = threading.Lock()
_guard_was: list[int | None] = []  # what each of the readings under way found; Pillow's own value is the first


@contextmanager
def _pillows_guard_off() -> Iterator[None]:
    """Pillow's limit is a global variable: the first reading lifts it, the last puts it back, in any thread."""
    with _guard:
        _guard_was.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _guard:
            before = _guard_was.pop()
            if not _guard_was:
                Image.MAX_IMAGE_PIXELS = before


def _header(image: Image.Image) -> Header:
    full = _full_scale(image)
    if full is None and image.mode not in _PLAIN:
        raise ValueError(f"mode {image.mode} is not supported")
    alpha = image.mode in _ALPHA or (full is None and "transparency" in image.info)
    frames = getattr(image, "n_frames", 1) if image.format in ("TIFF", "GIF") else 1
    tags = getattr(image, "tag_v2", {})  # of a TIFF, whose `size` is already the turned one
    stored = (int(tags.get(256, image.width)), int(tags.get(257, image.height)))
    return Header(stored, _orientation(image), image.mode, full, alpha, frames)


def _full_scale(image: Image.Image) -> float | None:
    """The largest value that the file's type holds; None for 8 bits and less."""
    if image.mode == "F":
        return 1.0
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 65535.0
    if image.mode != "I":
        return None
    tags = getattr(image, "tag_v2", {})
    bits, form = tags.get(258, (32,))[0], tags.get(339, (2,))[0]  # BitsPerSample; SampleFormat, 2: signed
    return float(
        2 ** (31 if bits == 32 else bits - (form == 2)) - 1
    )  # Pillow reads 32 bits as signed, whatever they are


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or none that means anything."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # what follows the pixels is not searched: Pillow would have to decode them
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing, and costs no picture its life
        return 1
    return found if found in _TURNS else 1


def _oriented(image: Image.Image, header: Header, turn: bool) -> Image.Image:
    image.load()
    already = image.format == "TIFF"  # Pillow turns these itself
    if turn == already or header.orientation == 1:
        return image
    return image.transpose((_TURNS if turn else _BACK)[header.orientation])


def _rgb(image: Image.Image, alpha: bool) -> Image.Image:
    if not alpha:
        return image.convert("RGB")
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")
