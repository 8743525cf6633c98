"""Files of photos: the pixels are Pillow's, and what is no photo, or costs too much, becomes one clear error."""
import io
import os
import re
import socket
import struct
import tempfile
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, noise, png_of
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from npefficient.errors import ArgumentError, ImageError
from npefficient.images.photo_file import open_image


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
    ("PNG", np.uint16([[0, 65535]]), "0 to 65535"), ("TIFF", np.uint16([[7, 256]]), "7 to 256"),
    ("TIFF", np.float32([[-1, 0.5]]), "-1 to 0.5"), ("PPM", np.int32([[0, 4095]]), "0 to 4095"),
    ("PNG", np.uint16([[0, 255]]), None), ("TIFF", np.float32([[0, 255]]), None), ("PNG", np.uint8([[0, 255]]), None)],
    ids=lambda value: str(getattr(value, "dtype", value)))
@pytest.mark.parametrize("in_chans", [3, 1])
def test_clipped_values_are_a_warning(tmp_path, kind, values, said, in_chans):
    file = tmp_path / "deep"
    Image.fromarray(values).save(file, kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_image(file, in_chans=in_chans)
    assert [str(one.message) for one in caught] == ([] if said is None else [
        f"photo {str(file)!r}: grey values from {said}, which become 0 to 255 by clipping, as timm does it; if they "
        "are to be scaled, save it with 8 bits"])


def test_a_warning_of_clipping_made_an_error_is_no_broken_photo(tmp_path):
    Image.fromarray(np.uint16([[0, 65535]])).save(tmp_path / "deep.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="by clipping"):
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


def tiny_chunks(side):
    """A PNG of noise whose data come in chunks of three bytes."""
    whole, file = encoded("PNG", h=side, w=side), io.BytesIO()
    place, size = whole.index(b"IDAT") + 4, int.from_bytes(whole[whole.index(b"IDAT") - 4:][:4], "big")
    for i in range(place, place + size, 3):
        PngImagePlugin.putchunk(file, b"IDAT", whole[i:min(i + 3, place + size)])
    return whole[:place - 8] + file.getvalue() + whole[-12:]


def many_scans(count):
    """A progressive JPEG of `count` scans, at least ten; of the further ones there is the header alone."""
    whole = encoded("JPEG", progressive=True)
    header = whole[whole.rindex(b"\xff\xda"):][:10]
    return whole[:-2] + header * (count - 10) + whole[-2:]


def tiff(tags, endian="<"):
    """A TIFF directory: (tag, type, count, value) -> bytes that begin at its header."""
    entries = b"".join(struct.pack(f"{endian}HHII", *tag) for tag in sorted(tags))
    return struct.pack(f"{endian}2sHIH", b"II" if endian == "<" else b"MM", 42, 8, len(tags)) + entries + bytes(4)


EXIF = b"Exif\0\0" + tiff([(274, 3, 1, 6)])
DAMAGED = {  # EXIF data -> is the photo turned?
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


def same_strips(count, given=True):
    """A compressed TIFF whose strips are all the same mebibyte, or have no sizes that tell."""
    strip = zlib.compress(bytes(16)) + bytes(2**20)
    tags = [(256, 3, 1, 16), (257, 3, 1, count), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (278, 3, 1, 1)]
    first = 8 + 2 + 12 * (len(tags) + 1 + given) + 4
    tags += [(273, 4, count, first)] + [(279, 4, count, first + 4 * count)] * given
    places = struct.pack(f"<{count}I", *[first + 8 * count] * count)
    return tiff(tags) + places + struct.pack(f"<{count}I", *[len(strip)] * count) + strip


BROKEN = {
    "empty": (b"", "the file is empty; fetch or export it again"),
    "text": (b"just some text, no picture at all", "not an image"),
    "html": (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>404</body></html>", "a web page, not an image.*fetch it"),
    "zeros": (bytes(4096), "not an image"),
    "jpeg_cut": (encoded("JPEG")[:700], "broken or cut short"),
    "jpeg_head_only": (encoded("JPEG")[:20], "not an image|broken or cut short"),
    "png_cut": (encoded("PNG")[:700], "broken or cut short"),
    "png_signature_only": (encoded("PNG")[:8], "not an image|broken or cut short"),
    "png_bad_crc": (encoded("PNG").replace(b"IDAT", b"IDAT\1", 1), "broken or cut short"),
    "gif_cut": (encoded("GIF", "P")[:900], "broken or cut short"),
    "bmp_cut": (encoded("BMP")[:900], "broken or cut short"),
    "tiff_cut": (encoded("TIFF")[:900], "broken or cut short|not an image"),
    "webp_cut": (encoded("WEBP")[:100], "broken or cut short|not an image"),
    "bomb": (png_of(60_000, 60_000), r"3600000000 pixels.*MAX_IMAGE_PIXELS"),
    "bomb_where_pillow_warns": (png_of(10_000, 10_000), "10000 x 10000 pixels, and at most 33,554,432 are allowed for "
                                                        "a file of 45 bytes; .*--max-pixels 100000000"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "EPS is a program"),
    "heic": (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC photo.*save it as JPEG"),
    "raw": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99), r"a raw photo \(CR3\)"),
    "video": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99), "a video, not an image"),
    "avi": (b"RIFF\x24\0\0\0AVI LIST" + bytes(99), "a video, not an image"),
    "webm": (b"\x1a\x45\xdf\xa3" + bytes(99), "a video, not an image"),
    "pdf": (b"%PDF-1.7\n" + bytes(99), "a PDF document, not an image"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a git-LFS pointer.*git lfs pull"),
    "psd": (b"8BPS\0\1" + bytes(99), "a Photoshop document"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a drawing"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL photo"),
    "ico": (encoded("ICO", "RGBA", 16, 16), r"an icon \(ICO\)"),
    "icns": (encoded("ICNS", "RGBA", 16, 16), r"an icon \(ICNS\)"),
    "pcx": (encoded("PCX"), "not an image, or of a kind"),
    "ppm_comment": (b"P6\n#" + b"x" * 200_000 + b"\n2 2\n255\n" + bytes(12), "thousands of tiny pieces; save it anew"),
    "ppm_blanks": (b"P6" + b" " * 200_000 + b"2 2 255\n" + bytes(12), "thousands of tiny pieces; save it anew"),
    "ppm_of_text": (b"P2 2000 2000 255\n" + b"7 " * 2**21, "4,194,321 bytes of plain text .*; save it as PNG"),
    "png_of_tiny_chunks": (tiny_chunks(300), "thousands of tiny pieces; save it anew"),
    "tiff_of_one_strip": (same_strips(2000), "its 2,000 pieces overlap, .*read more than 4 times over; save it anew"),
    "tiff_without_sizes": (same_strips(2000, given=False), "its 2,000 pieces overlap"),
    "jpeg_of_101_scans": (many_scans(101), "a JPEG of 101 scans, and 100 at most"),
}


@pytest.mark.parametrize("content, text", BROKEN.values(), ids=BROKEN)
def test_open_image_refuses(content, text, tmp_path):
    file = tmp_path / "holiday.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"photo '.*holiday\.jpg': .*({text})"):
        open_image(file)
    file.unlink()  # nothing holds it


def test_open_image_refuses_a_broken_stream():
    with pytest.raises(ImageError, match="photo '<BytesIO>': not an image"):
        open_image(io.BytesIO(b"no picture"))


def test_open_image_missing(tmp_path):
    with pytest.raises(ImageError, match=r"none\.jpg': no such file; check the path"):
        open_image(tmp_path / "none.jpg")


def test_open_image_directory(tmp_path):
    with pytest.raises(ImageError, match=r"holidays': it is a directory; name the photos"):
        (tmp_path / "holidays").mkdir()
        open_image(tmp_path / "holidays")


def test_open_image_unreadable(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("npefficient.images.photo_file.open_regular", refuse)  # chmod does not stop root
    with pytest.raises(ImageError, match=r"secret\.jpg': no permission to read it"):
        open_image(tmp_path / "secret.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_open_image_takes_regular_files_only(tmp_path, kind):
    """A pipe that nobody writes to would never answer, and a device may have no end."""
    path = "/dev/zero" if kind == "device" else tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    text = {"pipe": "it is a pipe, no file", "device": "it is a device, no file", "socket": "No such device or address"}
    with pytest.raises(ImageError, match=f"photo '{path}': {text[kind]}; name a file"):
        open_image(path)


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


@pytest.mark.parametrize("make, name", [
    (tempfile.SpooledTemporaryFile, "<SpooledTemporaryFile>"), (tempfile.TemporaryFile, "<BufferedRandom>"),
    (lambda: tempfile.TemporaryFile(dir=b"/tmp"), "<BufferedRandom>"), (io.BytesIO, "<BytesIO>"),
], ids=["spooled", "unnamed", "bytes", "memory"])
def test_open_image_names_a_file_without_a_name(make, name):
    with make() as file, pytest.raises(ImageError, match=re.escape(f"photo '{name}': the file is empty")):
        open_image(file)


@pytest.mark.parametrize("name, expected", [("a.jpg", "a.jpg"), (b"a.jpg", "a.jpg"), (7, "<BytesIO>"),
                                            ("", "<BytesIO>")])
def test_open_image_names_a_file_by_its_name(name, expected):
    file = io.BytesIO(b"text")
    file.name = name
    with pytest.raises(ImageError, match=f"photo '{expected}': not an image"):
        open_image(file)


def test_open_image_null_in_the_name():
    with pytest.raises(ImageError, match=r"a\\x00b': .*null byte"):
        open_image("a\0b")


@pytest.mark.parametrize("given_", [None, 3, b"\xff\xd8", ["a.jpg"], np.zeros((2, 2, 3), np.uint8)], ids=repr)
def test_open_image_neither_path_nor_file(given_):
    beginning = re.escape(repr(given_).split("\n")[0][:16])
    with pytest.raises(ArgumentError, match=beginning + r"(?s:.*)a path or a binary file .*BytesIO"):
        open_image(given_)


def test_open_image_text_file_object():
    with pytest.raises(ImageError, match="photo '<StringIO>'"):
        open_image(io.StringIO("text"))


def test_open_image_takes_as_many_pixels_as_the_user_says(tmp_path):
    file = tmp_path / "large.png"
    Image.new("RGB", (4000, 3000)).save(file, compress_level=1)
    assert open_image(file).size == open_image(file, max_pixels=12_000_000).size == (4000, 3000)
    text = "4000 x 3000 pixels, and at most 11,999,999 are allowed; shrink it, .* --max-pixels 12000000"
    with pytest.raises(ImageError, match=text):
        open_image(file, max_pixels=11_999_999)


def test_open_image_takes_the_photos_of_phones(tmp_path):
    """108 megapixels, above the number at which Pillow warns; decoded at an eighth, for the test's sake."""
    file = tmp_path / "phone.jpg"
    Image.new("L", (12000, 9000), 77).save(file)
    assert open_image(file, draft=500).size == (1500, 1125)


@pytest.mark.parametrize("start", [encoded("JPEG", progressive=True)[:-2], encoded("PNG"), encoded("WEBP"),
                                   encoded("TIFF", compression="tiff_lzw"), b"no photo"],
                         ids=["jpeg", "png", "webp", "tiff", "other"])
@pytest.mark.parametrize("door", ["path", "file", "pipe"])
def test_open_image_refuses_a_file_far_larger_than_a_photo(start, door, tmp_path, monkeypatch):
    """Two gibibytes that take no place on the disk; of a pipe, whose end nobody knows, no more is read than allowed."""
    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, place):
            return len(place)

    monkeypatch.setattr("npefficient.images.photo_limits.MAX_PIXELS", 2**17 if door == "pipe" else 2**27)
    path = tmp_path / "sparse.jpg"
    with open(path, "wb+") as file:
        file.write(start)
        file.truncate(2**31)
        source = {"path": path, "file": file, "pipe": Endless()}[door]
        tracemalloc.start()
        try:
            with pytest.raises(ImageError, match=f"more than {'1,048,576' if door == 'pipe' else '1,073,741,824'} "
                                                 "bytes; shrink it, .* --max-pixels N"):
                open_image(source)
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


def test_open_image_reads_a_large_file_of_a_user_who_says_so(tmp_path):
    path = tmp_path / "sparse.jpg"
    path.write_bytes(encoded("JPEG"))
    os.truncate(path, 2**31)
    assert open_image(path, max_pixels=2**28).size == (50, 40)


@pytest.mark.parametrize("given_", [0, -1, 1.5, True, "9"])
def test_open_image_refuses_a_limit_that_is_none(given_):
    with pytest.raises(ArgumentError, match=f"max_pixels {given_!r}: it must be a whole number of at least 1"):
        open_image("a.jpg", max_pixels=given_)


@pytest.mark.parametrize("scans", [10, 100])
def test_open_image_takes_progressive_jpegs(scans):
    file = io.BytesIO(many_scans(scans))
    assert np.array_equal(np.asarray(open_image(file)), np.asarray(Image.open(file)))


def test_open_image_takes_a_compressed_bmp():
    """Pillow reads it byte by byte: 40,000 pieces."""
    runs = np.random.default_rng(0).integers(0, 256, (200, 100), np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
    rows = b"".join(b"".join(bytes([2, index]) for index in row) + b"\0\0" for row in runs) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 200, 200, 1, 8, 1, len(rows), 0, 0, 256, 0) + palette.tobytes()
    file = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows
    expected = palette[np.repeat(runs, 2, axis=1)[::-1]][..., 2::-1]  # from the bottom up, in the order B G R
    assert np.array_equal(np.asarray(open_image(io.BytesIO(file))), expected)


def test_open_image_says_nothing_of_pillows_warnings(recwarn):
    """A thousand tags that are longer than the file: from Pillow 13 a warning each."""
    basic = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0),
             (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 4)]
    file = tiff([*basic, *((tag, 7, 2**30, 0) for tag in range(1000, 2000))])
    warnings.simplefilter("always")
    Image.open(io.BytesIO(file))
    assert len(recwarn) > 0
    recwarn.clear()
    assert open_image(io.BytesIO(file)).size == (2, 2) and len(recwarn) == 0


def test_open_image_leaves_the_process_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    for content, _ in BROKEN.values():
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ImageError, match="/x'"):
            open_image(tmp_path / "x")
    open_image(io.BytesIO(encoded("PNG", "P_bytes")))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


FUZZED = [encoded("PNG"), encoded("PNG", "P_bytes"), encoded("JPEG"), encoded("GIF", "P"), encoded("BMP"),
          encoded("TIFF"), encoded("TIFF", compression="tiff_lzw"), encoded("WEBP"), encoded("PPM"), encoded("TGA"),
          encoded("JPEG", progressive=True), encoded("JPEG2000")]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_open_image_broken_anywhere_is_a_picture_or_one_error(data):
    content = bytearray(data.draw(st.sampled_from(FUZZED)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))):]
    try:
        got = open_image(io.BytesIO(content), exif=True)
    except ImageError as error:
        assert "photo '<BytesIO>': " in str(error)
    else:
        assert got.mode == "RGB"
