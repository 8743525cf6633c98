"""What a photo may cost: its pixels, the scans of a JPEG, the pieces of a file, and Pillow's warnings."""
import io
import threading
import tracemalloc
import warnings

import pytest
from pictures import encoded
from PIL import Image

from npefficient.images import photo_limits
from npefficient.images.photo_limits import (
    Metered,
    TooManyPieces,
    allow_pixels,
    allowed_bytes,
    allowed_pixels,
    check_strips,
    count_scans,
    quiet_pillow,
)


@pytest.mark.parametrize("size, expected", [
    pytest.param(10_957, 2**25, id="one_bit_bomb_of_89_million"),
    pytest.param(2**17, 2**25, id="where_bytes_begin_to_count"),
    pytest.param(200_000, 51_200_000, id="256_a_byte"),
    pytest.param(2**19, 2**27, id="where_they_cease_to"),
    pytest.param(20_000_000, 2**27, id="phone"),
])
def test_allowed_pixels(size, expected):
    assert allowed_pixels(size, None) == expected
    assert allowed_pixels(size, 77) == 77
    assert 12000 * 9000 < 2**27


def test_allowed_bytes():
    assert allowed_bytes(None) == allowed_bytes(1) == 2**30
    assert allowed_bytes(10**9) == 8 * 10**9


@pytest.mark.parametrize("before, wish, expected", [
    (100, 300, 300), (300, 100, 300), (None, 100, None), (100, None, 100)], ids=["raise", "enough", "none", "no_wish"])
def test_allow_pixels_raises_pillows_own_limit(monkeypatch, before, wish, expected):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", before)
    allow_pixels(wish)
    assert Image.MAX_IMAGE_PIXELS == expected


def segment(marker, payload):
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def frame(marker, components):
    return segment(marker, b"\x08\0\x08\0\x08" + bytes([components]) + b"\1\x11\0" * components)


def scan(components, data=b"\x12\xff\0\x34\xff\xd0\x56"):
    """A scan's header and data, which contain a stuffed FF and a restart marker."""
    return segment(0xDA, bytes([components]) + b"\1\0" * components + b"\0\x3f\0") + data


SOI, EOI = b"\xff\xd8", b"\xff\xd9"


@pytest.mark.parametrize("data, expected", [
    (SOI + frame(0xC0, 3) + scan(3) + EOI, 1),
    (SOI + frame(0xC0, 3) + scan(3) * 9 + EOI, 1),
    (SOI + frame(0xC0, 3) + scan(1) * 500 + EOI, 500),
    (SOI + frame(0xC2, 3) + scan(3) + scan(1) * 9 + EOI, 10),
    (SOI + frame(0xC2, 1) + scan(1) * 4 + EOI + SOI + frame(0xC2, 1) + scan(1) * 7 + EOI, 4),
    (SOI + segment(0xE1, b"Exif\0\0" + SOI + frame(0xC2, 1) + scan(1) * 99 + EOI) + frame(0xC0, 1) + scan(1) + EOI, 1),
    (SOI + frame(0xC2, 1) + (scan(1) + segment(0xFE, EOI)) * 5 + EOI, 5),
    (SOI + frame(0xC2, 1) + (scan(1) + b"\xff\xff\xff" + segment(0xC4, bytes(20))[1:]) * 5 + EOI, 5),
    (SOI + frame(0xC2, 1) + scan(1) * 3, 3), (SOI, 0), (b"", 0), (SOI + b"\xff\xc2", 0), (SOI + b"\xff\xda", 1),
], ids=["baseline", "what_libjpeg_does_not_read", "baseline_in_parts", "progressive", "only_the_first_picture",
        "thumbnail", "end_in_a_comment", "fill_bytes", "cut", "head", "empty", "cut_frame", "cut_scan"])
def test_count_scans_by_hand(data, expected):
    assert count_scans(io.BytesIO(data)) == expected


@pytest.mark.parametrize("mode, how, expected", [
    ("RGB", {}, 1), ("L", {}, 1), ("CMYK", {}, 1), ("RGB", {"restart_marker_rows": 1}, 1),
    ("RGB", {"progressive": True}, 10), ("L", {"progressive": True}, 6),  # libjpeg's jpeg_simple_progression
], ids=["colour", "grey", "cmyk", "restarts", "progressive", "grey_progressive"])
def test_count_scans_of_pillows_files(mode, how, expected):
    assert count_scans(io.BytesIO(encoded("JPEG", mode, **how))) == expected


@pytest.mark.parametrize("blocks", [(1, 1), (1, 4), (2, 3), (7, 64)], ids=str)
def test_count_scans_block_by_block(monkeypatch, blocks):
    monkeypatch.setattr(photo_limits, "BLOCKS", blocks)
    assert count_scans(io.BytesIO(encoded("JPEG", progressive=True))) == 10
    filled = SOI + frame(0xC2, 1) + (scan(1) + b"\xff\xff\xff" + segment(0xC4, bytes(20))[1:]) * 5 + EOI + scan(1)
    assert count_scans(io.BytesIO(filled)) == 5


def test_count_scans_holds_a_block_at_most(tmp_path):
    """A progressive JPEG followed by a gibibyte of zeros."""
    data = encoded("JPEG", progressive=True)[:-2]
    with open(tmp_path / "sparse.jpg", "wb+") as file:
        file.write(data)
        file.truncate(2**30)
        tracemalloc.start()
        try:
            assert count_scans(file) == 10
            assert tracemalloc.get_traced_memory()[1] < 2**23
        finally:
            tracemalloc.stop()


def test_count_scans_gives_up_on_tiny_segments():
    count = photo_limits.PIECES
    with pytest.raises(TooManyPieces, match="it has tens of thousands of segments"):
        count_scans(io.BytesIO(SOI + frame(0xC2, 1) + scan(1) + segment(0xFE, b"") * count + EOI))


@pytest.mark.parametrize("tags, allowed", [
    ({273: (8, 1008), 279: (1000, 1000)}, True), ({324: (8,) * 16, 325: (2**20,) * 16}, False),
    ({273: (8,) * 5, 279: (2**20,) * 5}, True), ({273: (8,) * 6, 279: (2**20,) * 6}, False),
    ({273: (8,) * 6}, False), ({273: (8,) * 6, 279: (2**20,)}, False), ({273: (8,)}, True), ({}, True),
    ({273: (8,), 279: (1,), 325: (2**20,) * 9}, False),
], ids=["usual", "tiles", "five_times_a_mebibyte", "six_times", "no_sizes", "one_size", "no_size_of_one", "none",
        "sizes_of_the_other_kind"])
def test_check_strips(tags, allowed):
    """A file of a mebibyte may be read four times over, plus a mebibyte that every file is allowed."""
    if allowed:
        check_strips(tags, 2**20)
    else:
        with pytest.raises(TooManyPieces, match="overlap, and it would be read more than 4 times over"):
            check_strips(tags, 2**20)


def test_metered_counts_pieces_and_bytes(monkeypatch):
    monkeypatch.setattr(photo_limits, "PIECES", 3)
    file = Metered(io.BytesIO(bytes(4096)), 4096)
    assert [len(file.read(2)) for _ in range(3)] == [2] * 3 and file.tell() == 6
    with pytest.raises(TooManyPieces, match="tiny pieces"):
        file.read(2)
    file.expect("PNG")  # 3, and one for each 512 bytes
    assert [len(file.read(1)) for _ in range(11)] == [1] * 11
    with pytest.raises(TooManyPieces, match="tiny pieces"):
        file.read(1)
    file.expect("BMP")
    assert [len(file.read(1)) for _ in range(4000)] == [1] * 4000


def test_metered_reads_a_bounded_header(monkeypatch):
    monkeypatch.setattr(photo_limits, "HEADER", 1000)
    file = Metered(io.BytesIO(bytes(4096)), 4096)
    assert len(file.read(1000)) == 1000
    with pytest.raises(TooManyPieces, match="too many bytes before its pixels"):
        file.read(1)
    file.expect("PNG")
    assert len(file.read()) == 3095


def test_metered_is_read_four_times_over_at_most():
    size = 2**20
    file = Metered(io.BytesIO(bytes(size)), size)
    for _ in range(5):  # 4 times, plus a mebibyte that every file is allowed
        file.seek(0)
        assert len(file.read()) == size
    file.seek(0)
    with pytest.raises(TooManyPieces, match="more than 4 times over"):
        file.read()


def pillows_warning():
    """Warn as a module of Pillow does."""
    exec("import warnings; warnings.warn('from Pillow')", {"__name__": "PIL.TiffImagePlugin"})


def test_quiet_pillow_ignores_pillows_warnings_alone():
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_pillow(), quiet_pillow():
            pillows_warning()
            warnings.warn("from elsewhere", stacklevel=1)
        pillows_warning()
    assert [str(one.message) for one in caught] == ["from elsewhere", "from Pillow"]
    assert list(warnings.filters) == before


def test_quiet_pillow_lasts_until_the_last_thread_has_read():
    before, inside, leave = list(warnings.filters), threading.Event(), threading.Event()

    def read():
        with quiet_pillow():
            inside.set()
            leave.wait(10)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread = threading.Thread(target=read)
        thread.start()
        inside.wait(10)
        with quiet_pillow():
            pillows_warning()
        pillows_warning()  # the other thread is still reading
        leave.set()
        thread.join()
        with pytest.raises(UserWarning, match="from Pillow"):
            pillows_warning()
    assert list(warnings.filters) == before


def test_quiet_pillow_copes_with_filters_that_are_gone():
    with warnings.catch_warnings():
        with quiet_pillow():
            warnings.resetwarnings()
        assert warnings.filters == []


def test_count_scans_takes_filling_bytes_once():
    """A megabyte of FF before a stuffed one: trying the run from each of its bytes would take hours."""
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64)).save(jpeg, "JPEG", progressive=True)
    data = jpeg.getvalue()
    end = data.rindex(b"\xff\xd9")
    filled = io.BytesIO(data[:end] + b"\xff" * 1_000_000 + b"\0" + data[end:])
    assert count_scans(filled) == count_scans(jpeg) > 1
