"""Say what a file that is not a photo is, and what to do about it."""
from typing import Any

HEAD = 512  # bytes that suffice to recognise it
KINDS = (  # (place, bytes there, in lower case) -> what it is and what to do
    (0, b"version https://git-lfs", "a git-LFS pointer instead of the photo; fetch it with 'git lfs pull'"),
    (0, b"%!ps", "EPS is a program that Ghostscript would run; save it as PNG"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS is a program that Ghostscript would run; save it as PNG"),
    (0, b"%pdf-", "a PDF document, not an image; save its page as PNG"),
    (0, b"8bps", "a Photoshop document; save it as PNG"),
    (0, b"\0\0\1\0", "an icon (ICO), which holds several pictures; save one as PNG"),
    (0, b"icns", "an icon (ICNS), which holds several pictures; save one as PNG"),
    (0, b"\0\0\0\x0cjxl ", "a JPEG XL photo, which Pillow can't read; save it as JPEG or PNG"),
    (0, b"\xff\x0a", "a JPEG XL photo, which Pillow can't read; save it as JPEG or PNG"),
    *((4, b"ftyp" + brand, "a HEIC photo, which Pillow can't read; save it as JPEG")
      for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")),
    *((4, b"ftyp" + brand, "an AVIF photo, which this Pillow can't read; save it as JPEG, or install a newer Pillow")
      for brand in (b"avif", b"avis")),
    (4, b"ftypcrx", "a raw photo (CR3); develop it to JPEG"),
    (4, b"ftyp", "a video, not an image; extract its frames"),
    (8, b"avi ", "a video, not an image; extract its frames"),
    (0, b"\x1ae\xdf\xa3", "a video, not an image; extract its frames"),
    (0, b"<svg", "a drawing (SVG), not an image; save it as PNG"),
)


def what_it_is(head: Any) -> str:
    """Say what a file that is not a photo is, by its first bytes."""
    if not head:
        return "the file is empty; fetch or export it again"
    if not isinstance(head, bytes):
        return "not an image but text; open the file in binary mode"
    low = head.lower()
    for place, magic, what in KINDS:
        if low.startswith(magic, place):
            return what
    start = low.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not an image, such as a server's error; fetch it again"
    return "not an image, or of a kind that Pillow can't read; save it as JPEG or PNG"
