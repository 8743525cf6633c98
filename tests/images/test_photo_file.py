"""Files of photos: the pixels of an opened file are those that Pillow reads, whatever kind of file it is."""
import io
import os
import struct
import warnings

import numpy as np
import pytest
from crafted_files import many_scans, tiff
from pictures import encoded, noise
from PIL import Image, UnidentifiedImageError

from npefficient.errors import ImageError
from npefficient.images.image import transform
from npefficient.images.photo_file import open_image
from npefficient.images.tensorflow import tf_transform
from npefficient.network.preprocessing import Preprocessing


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # from the expected side
@pytest.mark.parametrize("format, mode", [
    ("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "P_colour"), ("PNG", "P_bytes"), ("PNG", "RGBA"), ("PNG", "LA"),
    ("PNG", "I;16"), ("PNG", "1"), ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("GIF", "P"), ("GIF", "P_colour"),
    ("BMP", "RGB"), ("TIFF", "CMYK"), ("TIFF", "F"), ("WEBP", "RGBA"), ("PPM", "RGB"), ("TGA", "RGB"), ("DIB", "RGB"),
    ("JPEG2000", "RGB"), ("MPO", "RGB"),
])
def test_open_image_is_pillows_rgb(format, mode, tmp_path):
    file = tmp_path / f"photo.{format.lower()}"
    file.write_bytes(encoded(format, mode))
    with Image.open(file) as picture:
        expected = picture.convert("RGB")
    for source in (file, str(file), io.BytesIO(file.read_bytes())):
        got = open_image(source)
        assert (got.mode, got.size, got.tobytes()) == ("RGB", expected.size, expected.tobytes())


@pytest.mark.parametrize("kind, values, said", [
    ("PNG", np.uint16([[0, 65535]]), "0 to 65535 are clipped to 0..255"),
    ("TIFF", np.uint16([[7, 256]]), "7 to 256 are clipped to 0..255"),
    ("TIFF", np.float32([[-1, 0.5]]), "-1 to 0.5 are clipped to 0..255"),
    ("PPM", np.int32([[0, 4095]]), "0 to 4095 are clipped to 0..255"),
    ("TIFF", np.float32([[0.25, 1]]), "0.25 to 1 are black, on a scale from 0 to 255"),
    ("PNG", np.uint16([[0, 255]]), None), ("TIFF", np.float32([[0, 255]]), None), ("PNG", np.uint8([[0, 255]]), None),
    ("PNG", np.uint16([[0, 1]]), None), ("TIFF", np.float32([[0, 0]]), None)],
    ids=lambda value: str(getattr(value, "dtype", value)))
@pytest.mark.parametrize("in_chans", [3, 1])
def test_values_on_another_scale_are_a_warning(tmp_path, kind, values, said, in_chans):
    file = tmp_path / "deep"
    Image.fromarray(values).save(file, kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_image(file, in_chans=in_chans)
    assert [str(one.message) for one in caught] == ([] if said is None else [
        f"photo {str(file)!r}: grey values from {said}, as with timm; to scale them instead, "
        "save it with 8 bits"])


def test_a_warning_of_clipping_made_an_error_is_no_broken_photo(tmp_path):
    Image.fromarray(np.uint16([[0, 65535]])).save(tmp_path / "deep.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="are clipped to 0..255"):
            open_image(tmp_path / "deep.png")


@pytest.mark.parametrize("mode", ["P_colour", "P_bytes"])
def test_open_image_transparency_is_no_warning(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(io.BytesIO(encoded("PNG", mode)))


def test_open_image_takes_an_open_file_and_leaves_it_open(tmp_path):
    file = tmp_path / "photo.png"
    file.write_bytes(encoded("PNG"))
    with open(file, "rb") as stream:
        open_image(stream)
        assert not stream.closed


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image_exif(orientation, tmp_path):
    upright = noise(6, 9)
    undo = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: np.rot90(a, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "rotated.png"
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(file, exif=exif)
    assert np.array_equal(np.asarray(open_image(file, exif=True)), upright)
    assert np.array_equal(np.asarray(open_image(file)), undo(upright)), "timm does not rotate"


EXIF = b"Exif\0\0" + tiff([(274, 3, 1, 6)])
DAMAGED = {  # EXIF data, and whether the photo is turned
    "whole": (EXIF, True), "big_endian": (b"Exif\0\0" + tiff([(274, 3, 1, 6 << 16)], ">"), True),
    "cut": (EXIF[:20], False), "header_alone": (EXIF[:10], False), "garbage": (b"Exif\0\0" + bytes(range(99)), False),
    "bigtiff": (b"Exif\0\0II+\0\x08\0\0\0" + bytes(40), False),
    "places_of_another_type": (b"Exif\0\0" + tiff([(274, 3, 1, 6), (34853, 2, 9, 1), (34665, 7, 9999, 3)]), True),
    "no_number": (b"Exif\0\0" + tiff([(274, 2, 4, 0x20202020)]), False),
    "nine": (b"Exif\0\0" + tiff([(274, 3, 1, 9)]), False),
}


@pytest.mark.parametrize("exif, turned", DAMAGED.values(), ids=DAMAGED)
def test_open_image_takes_a_photo_with_damaged_exif_data_as_it_lies(exif, turned):
    file = encoded("JPEG", exif=exif)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(file))
    except UnidentifiedImageError:
        pytest.skip("this version of Pillow can't open such a file at all")
    plain = np.asarray(open_image(io.BytesIO(encoded("JPEG"))))
    assert np.array_equal(np.asarray(open_image(io.BytesIO(file))), plain)
    assert np.array_equal(np.asarray(open_image(io.BytesIO(file), exif=True)), np.rot90(plain, -1) if turned else plain)


def test_open_image_reads_a_file_from_its_beginning():
    """As Pillow does; the temporary files of Python 3.10 have no `seekable`, and their `seek` returns nothing."""
    class Spooled:
        def __init__(self, file):
            self.file, self.read, self.tell = file, file.read, file.tell

        def seek(self, *place):
            self.file.seek(*place)

    file = io.BytesIO(encoded("PNG"))
    file.seek(0, os.SEEK_END)
    assert open_image(Spooled(file)).size == (50, 40)


def test_open_image_reads_what_can_not_be_read_twice():
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, place):
            return self.data.readinto(place)

    assert open_image(Pipe(encoded("PNG"))).size == (50, 40)


def test_open_image_takes_the_photos_of_phones(tmp_path):
    """108 megapixels, more than Pillow's limit for a warning; decoded at an eighth of the size to save time."""
    file = tmp_path / "phone.jpg"
    Image.new("L", (12000, 9000), 77).save(file)
    assert open_image(file, draft=500).size == (1500, 1125)


@pytest.mark.parametrize("scans", [10, 100])
def test_open_image_takes_progressive_jpegs(scans):
    file = io.BytesIO(many_scans(scans))
    assert np.array_equal(np.asarray(open_image(file)), np.asarray(Image.open(file)))


def test_open_image_takes_a_compressed_bmp():
    """Pillow reads it in 40,000 pieces, byte by byte."""
    runs = np.random.default_rng(0).integers(0, 256, (200, 100), np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
    rows = b"".join(b"".join(bytes([2, index]) for index in row) + b"\0\0" for row in runs) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 200, 200, 1, 8, 1, len(rows), 0, 0, 256, 0) + palette.tobytes()
    file = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows
    expected = palette[np.repeat(runs, 2, axis=1)[::-1]][..., 2::-1]  # from the bottom up, in the order B G R
    assert np.array_equal(np.asarray(open_image(io.BytesIO(file))), expected)


@pytest.mark.parametrize("exif", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_photo_of_an_impossible_size_is_named(tmp_path, mode, exif):
    """What can be decoded, but not prepared, is one of many photos to the user, too."""
    path = tmp_path / "thin.png"
    Image.new(mode, (1, 60000)).save(path)
    with pytest.raises(ImageError, match="photo '.*thin.png' of 1 x 60000 pixels: too thin"):
        transform(open_image(path, exif=exif))
    with pytest.raises(ImageError, match="photo '.*thin.png' of 1 x 60000 pixels: too thin"):
        transform(Image.open(path))
    with pytest.raises(ImageError, match="photo '.*thin.png' of 1 x 60000 pixels: too small"):
        tf_transform(open_image(path, exif=exif), Preprocessing())
    with pytest.raises(ImageError, match="photo of 1 x 60000 pixels: too thin"):
        transform(np.zeros((60000, 1, 3), np.uint8))


def test_open_image_says_nothing_of_pillows_warnings(recwarn):
    """A thousand tags longer than the file: Pillow warns of them."""
    basic = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0),
             (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 4)]
    file = tiff([*basic, *((tag, 7, 2**30, 0) for tag in range(1000, 2000))])
    warnings.simplefilter("always")
    Image.open(io.BytesIO(file))
    assert len(recwarn) > 0
    recwarn.clear()
    assert open_image(io.BytesIO(file)).size == (2, 2) and len(recwarn) == 0
