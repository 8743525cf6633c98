"""Show what the network saw in a photo, as one HTML file.

The page holds the photo as given, resized and cropped; the most probable classes and, for each, where in the photo its
evidence lies; every block with its shapes, cost and strongest feature maps; the time of every layer. It needs no network
and no other file. With --png and without -o the heat map alone is written. --demo explains with the embedded digit model.
"""


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="any picture that Pillow reads; with --demo may be "
                                                                  "left out")
    parser.add_argument("-o", "--output", metavar="FILE.html", help="the page to write (default: the photo's name with "
                                                                    ".html, in the current directory)")
    parser.add_argument("--png", metavar="FILE.png", help="write the crop with the first class's map over it; alone, "
                                                          "unless -o is given too")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", help="lite0 to lite4 with the official ImageNet weights, which are "
                                                         "fetched on first use (default: lite0)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    weights.add_argument("--demo", action="store_true", help="use the embedded digit model; without a photo, on a digit")
    parser.add_argument("--topk", metavar="K", type=int, default=5, help="how many classes to explain (default: 5)")
    parser.add_argument("--class", dest="chosen", metavar="NAME", help="explain this class first, by its name or number")
    parser.add_argument("--exif", action="store_true", help="turn the photo as its EXIF data say (timm does not)")


def run(args) -> int:
    import contextlib
    import dataclasses

    from ..errors import ArgumentError
    from ..explanation import explain
    from ..paths import replacing

    if args.topk < 1:
        raise ArgumentError(f"--topk {args.topk}: it must be at least 1")
    photo = _photo(args)
    page, png = _targets(args, photo)
    with contextlib.ExitStack() as files:  # entered first: what can't be written is said before the work
        page_file, png_file = (path and files.enter_context(replacing(path, force=args.force)) for path in (page, png))
        if page:
            from ..explanation.page import jinja

            jinja()
        model = _model(args)
        wishes = [] if args.chosen is None else [args.chosen]
        result = explain(photo, model, topk=args.topk, classes=wishes, exif=args.exif, measure=page is not None)
        if page:
            page_file.write_text(result.to_html(), encoding="utf-8")
        if png:
            from PIL import Image

            Image.fromarray(result.heat_map()).save(png_file, "png")
    return 0
