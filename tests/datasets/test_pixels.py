"""Pictures as the annotator saw them: every mode, range and EXIF orientation, against arrays written down here."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from labelkit.datasets import CocoFolder, pixels, read_picture
from labelkit.datasets.pixels import read_header

RAMP = np.linspace(0, 1, 48 * 64).reshape(48, 64)
COLOURS = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def coco(bbox=(5, 5, 10, 10), width=64, height=48, file_name="a.png", number=1) -> dict:
    return {
        "images": [
            {"id": i + 1, "file_name": file_name.format(i), "width": width, "height": height} for i in range(number)
        ],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": list(bbox)}],
    }


def exif(orientation: int) -> Image.Exif:
    found = Image.new("RGB", (1, 1)).getexif()
    found[pixels.ORIENTATION] = orientation
    return found


WIDE = {
    # name: (array to write, file, full scale)
    "16-bit-png": ((RAMP * 65535).round().astype(np.uint16), "a.png", 65535),
    "16-bit-tiff": ((RAMP * 65535).round().astype(np.uint16), "a.tif", 65535),
    "32-bit-tiff": ((RAMP * (2**31 - 1)).round().astype(np.int32), "a.tif", 2**31 - 1),
    "float-tiff": (RAMP.astype(np.float32), "a.tif", 1),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_ramp_over_the_whole_range_of_its_type_goes_from_0_to_1(name, tmp_path):
    values, file, full = WIDE[name]
    Image.fromarray(values).save(tmp_path / file)
    image = read_picture(tmp_path / file)
    assert image.shape == (3, 48, 64) and image.dtype == torch.float32
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    torch.testing.assert_close(image[0], torch.tensor(values / full, dtype=torch.float32), rtol=0, atol=1e-6)
    dataset = CocoFolder(tmp_path, coco(file_name=file))
    assert dataset.report.problems == [] and torch.equal(dataset[0][0], image)
    assert [note.kind for note in dataset.report.notes] == ["image: more than 8 bits"]
    assert f"{full}" in str(dataset.report.notes[0]) and "more than 8 bits" in dataset.report.summary()


def test_signed_16_bits_end_at_32767(tmp_path):
    """A TIFF written by hand: Pillow has no mode for it to write, and reads it as 32-bit integers."""
    values = np.array([[-5, 0, 16384, 32767]], dtype="<i2")
    tags = [(256, 4), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 8), (339, 2)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 16) + values.tobytes()
    (tmp_path / "a.tif").write_bytes(header + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))
    assert read_header(tmp_path / "a.tif").full == 32767
    torch.testing.assert_close(read_picture(tmp_path / "a.tif")[0, 0], torch.tensor([0, 0, 16384 / 32767, 1]))


def test_8_bits_stay_8_bits(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "rgb.png")
    image = read_picture(tmp_path / "rgb.png")
    assert image.dtype == torch.uint8 and torch.equal(image, torch.from_numpy(COLOURS).permute(2, 0, 1))
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "grey.png")
    assert torch.equal(read_picture(tmp_path / "grey.png"), torch.from_numpy(COLOURS[..., 0]).expand(3, 48, 64))


def test_one_bit_and_palette_are_colours(tmp_path):
    Image.fromarray(COLOURS[..., 0] > 127).save(tmp_path / "bits.png")
    bits = read_picture(tmp_path / "bits.png")
    assert torch.equal(bits[1], torch.from_numpy((COLOURS[..., 0] > 127) * np.uint8(255)))
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 200])
    palette.save(tmp_path / "palette.png")
    assert read_picture(tmp_path / "palette.png")[:, 0, 0].tolist() == [10, 20, 200]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_and_said(mode, tmp_path):
    """Below full transparency editors leave any colour; nobody saw it."""
    if mode == "P":
        image = Image.new("P", (64, 48), 0)
        image.putpalette([0, 0, 0])
        image.save(tmp_path / "a.png", transparency=0)
    else:
        Image.new(mode, (64, 48), (0,) * len(mode)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").min() == 255
    report = CocoFolder(tmp_path, coco()).report
    assert report.problems == [] and [note.kind for note in report.notes] == ["image: transparency"]


def test_half_transparent_red_is_pink_and_opaque_is_itself(tmp_path):
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 128))
    image.save(tmp_path / "a.png")
    first, second = read_picture(tmp_path / "a.png")[:, 0].T.tolist()
    assert first == [200, 0, 0] and second == pytest.approx([227, 127, 127], abs=1)


def test_cmyk_is_converted_and_said(tmp_path):
    Image.new("CMYK", (64, 48), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg")[:, 0, 0].tolist() == pytest.approx([0, 255, 255], abs=2)
    report = CocoFolder(tmp_path, coco(file_name="a.jpg")).report
    assert [note.kind for note in report.notes] == ["image: colours"] and "CMYK" in str(report.notes[0])


def test_of_several_frames_the_first_is_read_and_said(tmp_path):
    frames = [Image.new("L", (64, 48), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.tif").max() == 10
    assert "the first of 2 frames" in str(CocoFolder(tmp_path, coco(file_name="a.tif")).report)


def test_a_mode_that_nobody_can_show_is_refused_by_name(tmp_path):
    Image.new("LAB", (64, 48)).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match="a.tif: cannot be read: mode LAB"):
        read_picture(tmp_path / "a.tif")


def test_floats_that_pass_1_need_a_white(tmp_path):
    Image.fromarray((RAMP * 812).astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match=r"a.tif.*floats reach 812.*white="):
        read_picture(tmp_path / "a.tif")
    report = CocoFolder(tmp_path, coco(file_name="a.tif")).report
    assert report.counts() == {"annotation: dropped image": 1, "image: unreadable file": 1} and "white=" in str(report)
    dataset = CocoFolder(tmp_path, coco(file_name="a.tif"), white=812, decode=True)
    torch.testing.assert_close(dataset[0][0][0], torch.tensor(RAMP, dtype=torch.float32))


def test_not_a_number_is_no_pixel(tmp_path):
    values = RAMP.astype(np.float32)
    values[3, 5] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match="a.tif.*NaN"):
        read_picture(tmp_path / "a.tif")


def test_twelve_bits_in_sixteen_are_called_dark_until_white_is_stated(tmp_path, unchecked):
    for index in range(3):
        Image.fromarray((RAMP * (1000 + 1500 * index)).astype(np.uint16)).save(tmp_path / f"{index}.png")
    dark = CocoFolder(tmp_path, coco(file_name="{}.png", number=3))
    assert dark.report.counts() == {"image: dark": 1} and dark.report.images == (3, 3)
    assert "4000 of 65535" in str(dark.report) and "2.png" in str(dark.report) and "white=4095" in str(dark.report)
    stated = CocoFolder(tmp_path, coco(file_name="{}.png", number=3), white=np.uint16(4095))
    assert stated.report.problems == [] and float(stated[2][0].max()) == pytest.approx(4000 / 4095)
    assert float(dark[2][0].max()) == pytest.approx(4000 / 65535)
    assert CocoFolder(tmp_path, coco(file_name="{}.png", number=3), white=65535).report.problems == []


SUFFIXES = ["png", "jpg", "webp", "tif"]
GREY = np.full((48, 64), 40, dtype=np.uint8)
GREY[:16, :24] = 220  # the upper left corner of the stored pixels


def turned_by_hand(values: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF says: where the stored first row and first column are to be seen."""
    rows_and_columns = {
        1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1],
        5: values.T, 6: values[::-1].T, 7: values[::-1, ::-1].T, 8: values.T[::-1],
    }  # fmt: skip
    return rows_and_columns[orientation]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_that_is_stated_decides_whether_exif_turns(orientation, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path, exif=exif(orientation))
    shown = torch.tensor(turned_by_hand(GREY, orientation).copy()).float()
    stored = torch.from_numpy(GREY).float()

    def bright(image):
        return image[0].float()

    size = (shown.shape[1], shown.shape[0])
    assert read_header(path).shown == size and read_header(path).stored == (64, 48)
    near = {"rtol": 0, "atol": 40}  # JPEG and WebP round; the two greys are 180 apart
    torch.testing.assert_close(bright(read_picture(path)), shown, **near)
    torch.testing.assert_close(bright(read_picture(path, size)), shown, **near)
    if orientation >= 5:
        torch.testing.assert_close(bright(read_picture(path, (64, 48))), stored, **near)
    with pytest.raises(OSError, match="EXIF" if orientation > 1 else "64 x 48 pixels, the annotation says 10 x 10"):
        read_picture(path, (10, 10))


@pytest.mark.parametrize("mode", [np.uint16, np.int32, np.float32])
def test_wide_pictures_are_turned_too(mode, tmp_path):
    """Pillow turns an uncompressed 16-bit TIFF wrongly when it opens it by name."""
    values = (RAMP if mode == np.float32 else RAMP * 65535).astype(mode)
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif(6))
    full = {np.uint16: 65535, np.int32: 2**31 - 1, np.float32: 1}[mode]
    expected = torch.tensor(turned_by_hand(values, 6) / full, dtype=torch.float32)
    torch.testing.assert_close(read_picture(tmp_path / "a.tif")[0].as_subclass(torch.Tensor), expected)


def test_exif_is_said_as_clearly_as_it_can_be_known(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif(3))
    either = CocoFolder(tmp_path, coco(bbox=(40, 32, 24, 16)))
    assert float(either[0][0][:, 32:48, 40:64].mean()) == pytest.approx(220 / 255)
    assert either.report.counts() == {"image: EXIF orientation": 1}
    assert [problem.action for problem in either.report.problems] == ["turned"]
    assert "orientation 3" in str(either.report) and "torchvision do not turn" in str(either.report)

    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif(6))
    turned = CocoFolder(tmp_path, coco(bbox=(32, 0, 16, 24), width=48, height=64), strict=True)
    assert float(turned[0][0][:, 0:24, 32:48].mean()) == pytest.approx(220 / 255)
    assert [note.kind for note in turned.report.notes] == ["image: EXIF orientation, turned"]
    stored = CocoFolder(tmp_path, coco(bbox=(0, 0, 24, 16)), strict=True)
    assert float(stored[0][0][:, 0:16, 0:24].mean()) == pytest.approx(220 / 255)
    assert [note.kind for note in stored.report.notes] == ["image: EXIF orientation, not turned"]
    assert "not turned" in str(stored.report)

    wrong = CocoFolder(tmp_path, coco(width=63))
    assert "EXIF orientation is 6; turned by that it has 48 x 64" in str(wrong.report)
    assert wrong.report.counts()["image: wrong size"] == 1


def test_a_size_that_nobody_stated_is_the_shown_one(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif(6))
    dataset = CocoFolder(tmp_path, coco(width=None))
    assert dataset.coco()["images"][0]["width"] == 48 and dataset[0][0].shape == (3, 64, 48)
    assert dataset.report.counts() == {"image: size repaired": 1, "image: EXIF orientation": 1}


def test_damaged_exif_costs_no_picture(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_header(tmp_path / "a.png").orientation == 1 and read_picture(tmp_path / "a.png").shape == (3, 48, 64)
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif(77))
    assert read_header(tmp_path / "a.png").orientation == 1


def broken_chunk(path) -> None:
    """A PNG with a wrong checksum inside its pixels."""
    Image.fromarray(COLOURS).save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT")
    content[at + 40] ^= 0xFF
    path.write_bytes(content)


def test_a_broken_chunk_is_named_by_file_and_id(tmp_path):
    broken_chunk(tmp_path / "a.png")
    dataset = CocoFolder(tmp_path, coco())
    assert dataset.report.problems == []  # its header is sound
    with pytest.raises(OSError, match=r"image id 1, a.png: .*a.png: cannot be read: "):
        dataset[0]
    assert CocoFolder(tmp_path, coco(), decode=True).report.counts()["image: unreadable file"] == 1


def test_a_picture_that_changed_after_the_check_is_named(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    dataset = CocoFolder(tmp_path, coco())
    Image.fromarray(COLOURS[:40]).save(tmp_path / "a.png")
    with pytest.raises(OSError, match="image id 1, a.png.*64 x 40 pixels, the annotation says 64 x 48"):
        dataset[0]


def header_only(path, width: int, height: int) -> None:
    """A PNG that states a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_large_pictures_have_a_limit_of_our_own_and_no_warning(tmp_path):
    header_only(tmp_path / "large.png", 20000, 25000)
    header_only(tmp_path / "larger.png", 20001, 25000)
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_header(tmp_path / "large.png").stored == (20000, 25000)
        with pytest.raises(OSError, match="larger.png.*20001 x 25000 pixels are more than the 500 megapixels.*tiles"):
            read_header(tmp_path / "larger.png")
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_pixels_beyond_pillows_limit_are_read_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow would refuse these 3,072
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(lambda _: read_picture(tmp_path / "a.png"), range(40)))
    assert all(torch.equal(image, images[0]) for image in images) and Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(OSError):
        read_picture(tmp_path / "none.png")
    assert Image.MAX_IMAGE_PIXELS == 1000
