"""Show what the network saw in a photo, as one HTML file.

The page holds the photo as given, resized and cropped; the most probable classes and, for each, where in the photo its
evidence lies; every block with its shapes, cost and strongest feature maps; the time of every layer on one core. It
needs no network and no other file. With --png and without -o the heat map alone is written. --demo needs no photo:
it takes Lite0 and a photograph that comes with npefficient, or, where the official weights are neither kept nor
installed, the embedded model and one of its digits.
"""
from ..common.text import plain, short
from .options import (
    add_reading,
    add_threads,
    add_weights,
    compile_kernels,
    demo_photos,
    ending,
    make_model,
    reading,
    whole,
)

DEMO_PHOTO = 1  # of the demo's: the cat, or the digit one


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="any picture that Pillow reads")
    parser.add_argument("-o", "--output", metavar="FILE.html", type=ending(".html", ".htm"),
                        help="the page to write (default: the photo's name with "
                                                                    ".html, in the current directory)")
    parser.add_argument("--png", metavar="FILE.png", type=ending(".png"),
                        help="write the crop with the map of the most probable class over it, or of --class; alone, "
                             "unless -o is given too")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    add_weights(parser, demo="explain a photograph that comes with npefficient")
    parser.add_argument("--topk", metavar="K", type=whole, default=5, help="how many classes to explain (default: 5)")
    parser.add_argument("--class", dest="chosen", metavar="NAME", help="explain this class too, by its name or "
                                                                         "number, and show its map first")
    add_threads(parser)
    add_reading(parser)


def run(args) -> int:
    import contextlib
    import os

    from ..common.paths import replacing
    from ..explanation import explain, page

    photo, how = _photo(args), reading(args)
    html, png = _targets(args, photo)
    with contextlib.ExitStack() as files:
        # What can't be written is said before the work begins.
        if html:
            page.environment()
        html_file, png_file = (path and files.enter_context(replacing(path, force=args.force)) for path in (html, png))
        model = make_model(args, args.threads)
        compile_kernels()
        print(model)
        result = explain(photo, model, topk=args.topk, classes=[] if args.chosen is None else [args.chosen],
                         measure=html is not None, **how)
        if html:
            html_file.write_text(result.to_html(args.chosen), encoding="utf-8")
        if png:
            from PIL import Image

            Image.fromarray(result.heat_map(args.chosen)).save(png_file, "png")
    for one in result.classes:
        print(f"{one.probability:7.2%}  {short(one.label)}")
    for path in filter(None, (html, png)):
        print(f"wrote    {plain(path)}, {os.path.getsize(path):,} bytes")
    return 0


def _photo(args):
    if args.demo:
        return demo_photos(args, args.photo)[DEMO_PHOTO]
    if args.photo is not None:
        return args.photo
    args.refuse("no photo given: name one, or try 'npefficient explain --demo'")


def _targets(args, photo):
    """The page and the heat map to write, None where not wanted."""
    from pathlib import Path

    png = None if args.png is None else Path(args.png)
    html = Path(args.output) if args.output is not None else None if png else Path(f"{Path(photo).stem}.html")
    return html, png
