"""Files that `open_image` refuses: those that hold no photo, or one that costs too much, raise one clear error."""
import io
import os
import re
import socket
import tempfile
import tracemalloc
import warnings

import numpy as np
import pytest
from crafted_files import many_scans, same_strips, tiny_chunks
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, png_of
from PIL import Image, ImageFile

from npefficient.errors import ArgumentError, ImageError
from npefficient.images.photo_file import open_image

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
    "ppm_comment": (b"P6\n#" + b"x" * 200_000 + b"\n2 2\n255\n" + bytes(12), "thousands of tiny pieces; save it again"),
    "ppm_blanks": (b"P6" + b" " * 200_000 + b"2 2 255\n" + bytes(12), "thousands of tiny pieces; save it again"),
    "ppm_of_text": (b"P2 2000 2000 255\n" + b"7 " * 2**21, "4,194,321 bytes of plain text .*; save it as PNG"),
    "png_of_tiny_chunks": (tiny_chunks(300), "thousands of tiny pieces; save it again"),
    "tiff_of_one_strip": (same_strips(2000), "its 2,000 pieces overlap, .*read more than 4 times over; save it again"),
    "tiff_without_sizes": (same_strips(2000, given=False), "its 2,000 pieces overlap"),
    "jpeg_of_101_scans": (many_scans(101), "a JPEG of 101 scans, and at most 100 are decoded"),
}


@pytest.mark.parametrize("content, text", BROKEN.values(), ids=BROKEN)
def test_open_image_refuses(content, text, tmp_path):
    file = tmp_path / "holiday.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"photo '.*holiday\.jpg': .*({text})"):
        open_image(file)
    file.unlink()  # no handle is left open


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
    """Reading a pipe without a writer would block, and a device may be endless."""
    path = "/dev/zero" if kind == "device" else tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    text = {"pipe": "it is a pipe, no file", "device": "it is a device, no file", "socket": "No such device or address"}
    with pytest.raises(ImageError, match=f"photo '{path}': {text[kind]}; name a file"):
        open_image(path)


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


@pytest.mark.parametrize("start", [encoded("JPEG", progressive=True)[:-2], encoded("PNG"), encoded("WEBP"),
                                   encoded("TIFF", compression="tiff_lzw"), b"no photo"],
                         ids=["jpeg", "png", "webp", "tiff", "other"])
@pytest.mark.parametrize("door", ["path", "file", "pipe"])
def test_open_image_refuses_a_file_far_larger_than_a_photo(start, door, tmp_path, monkeypatch):
    """A sparse file of two gibibytes; from a pipe, whose length is unknown, no more than the limit is read."""
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
