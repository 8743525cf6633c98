"""Show what the network saw in a photo, as one HTML file.

The page shows the photo as given, resized and cropped; the most probable classes and, for each, the evidence for it in
the photo, and what it costs to cover a part of the photo; any class minus another one; every block with its layers and
strongest feature maps, and a pixel's numbers one by one; and time, bytes and limit of every layer on one core. It works
offline and needs no other file. With --png but without -o, only the heat map is written. --demo needs no photo:
it takes Lite0 and a photograph that comes with npefficient, or, if the official weights are neither cached nor
installed, the embedded model and one of its digits. With --precision int8, all of it is that of the int8 network.
"""
from ..common.text import plain, short
from .options import (
    add_precision,
    add_reading,
    add_threads,
    add_weights,
    check_outputs,
    compile_kernels,
    demo_photos,
    make_model,
    reading,
)
from .values import ending, whole

DEMO_PHOTO = 1  # index of the demo's photo: the cat, or the digit one


def add_arguments(parser):
    parser.add_argument("photo", metavar="PHOTO", nargs="?", help="any picture that Pillow reads")
    parser.add_argument("-o", "--output", metavar="FILE.html", type=ending(".html", ".htm"),
                        help="the page to write (default: the photo's name with .html, in the current directory)")
    parser.add_argument("--png", metavar="FILE.png", type=ending(".png"),
                        help="write the crop overlaid with the heat map of the most probable class, or of --class; "
                             "without -o, no page is written")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    add_weights(parser, demo="explain a photograph that comes with npefficient")
    add_precision(parser)
    parser.add_argument("--topk", metavar="K", type=whole, default=5, help="how many classes to explain (default: 5)")
    parser.add_argument("--class", dest="chosen", metavar="NAME", help="also explain this class, given by name or "
                                                                         "number, and show its maps first")
    parser.add_argument("--minus", metavar="NAME", help="also explain this class, and first show what speaks for the "
                                                        "other one rather than for it")
    parser.add_argument("--no-occlusion", action="store_true",
                        help="do not cover parts of the photo and run the network again; the page then has one map for "
                             "each class")
    parser.add_argument("--patch", metavar="PIXELS", type=whole,
                        help="rows and columns of the parts to cover (default: a seventh of the input, for 49 runs)")
    add_threads(parser)
    add_reading(parser)


def run(args) -> int:
    import contextlib
    import os

    from ..common.paths import replacing
    from ..explanation import explain, page

    if args.no_occlusion and args.patch is not None:
        args.refuse("--patch is what to cover, and --no-occlusion covers nothing: omit one of the two")
    check_outputs(args, "output", "png", force=args.force, reads=[args.photo, args.weights])
    photo, how = _photo(args), reading(args)
    html, png = _targets(args, photo)
    with contextlib.ExitStack() as files:
        # Report output files that can't be written before the work begins.
        if html:
            page.environment()
        html_file, png_file = (path and files.enter_context(replacing(path, force=args.force)) for path in (html, png))
        model = make_model(args, args.threads)
        compile_kernels(precision=model.precision)
        print(model)
        result = explain(photo, model, topk=args.topk, measure=html is not None, patch=args.patch, progress=_progress(),
                         classes=[name for name in (args.chosen, args.minus) if name is not None],
                         occlusion=html is not None and not args.no_occlusion, **how)
        if html:
            html_file.write_text(result.to_html(args.chosen, args.minus), encoding="utf-8")
        if png:
            from PIL import Image

            Image.fromarray(result.heat_map(args.chosen, args.minus)).save(png_file, "png")
    for one in result.classes:
        print(f"{one.probability:7.2%}  {short(one.label)}")
    for path in filter(None, (html, png)):
        print(f"wrote    {plain(path)}, {os.path.getsize(path):,} bytes")
    return 0


def _progress():
    """What shows the passes of occlusion on a terminal; a log has no use for a few seconds of them."""
    from ..common.progress import Progress

    shown = None

    def tell(done: int, total: int) -> None:
        nonlocal shown
        shown = shown or Progress(total, "patches")
        if shown.live:
            shown.advance(done - shown.done)
            if done == total:
                shown.close()

    return tell


def _photo(args):
    if args.demo:
        return demo_photos(args, args.photo)[DEMO_PHOTO]
    if args.photo is not None:
        return args.photo
    args.refuse("no photo given: name one, or try 'npefficient explain --demo'")


def _targets(args, photo):
    """The page and the heat map to write; None for one that is not wanted."""
    from pathlib import Path

    png = None if args.png is None else Path(args.png)
    html = Path(args.output) if args.output is not None else None if png else Path(f"{Path(photo).stem}.html")
    return html, png
