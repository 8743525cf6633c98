"""Shared by all modes of `classify`: the photos, how a result is printed, and the exit code."""
from ..common.text import counted, plain, short
from .options import demo_photos
from .terminal import say

BAR = 20  # characters
NARROWEST, WIDEST = 11, 60  # limits of the width of the name column, in characters


def photos_of(args) -> list[tuple]:
    """(name to print, path) of each PHOTO, or of the demo's own pictures."""
    if args.demo:
        return [(photo.name, photo) for photo in demo_photos(args, args.photos)]
    if args.photos:
        return [(photo, photo) for photo in args.photos]
    args.refuse("no photo given: name one or more, or try 'npefficient classify --demo'")


def topk(args) -> int:
    """How many classes to print."""
    from ..demo import demo

    if args.topk is not None:
        return args.topk
    return demo().topk if args.demo else 5


def name_width(names) -> int:
    """The width of the column of photo names; very long names do not widen it and stick out."""
    return max((len(plain(name)) for name in names if len(name) <= WIDEST), default=0)


def show(name: str, result, as_json: bool, width: int = 0) -> None:
    """Print the classes of one photo, [(label, probability)]; width: of the name column, used for a single class."""
    if as_json:
        import json

        print(json.dumps({"photo": name, "classes": [{"label": n, "probability": p} for n, p in result]}))
        return
    rows = [f"{probability:7.2%}  {'#' * round(probability * BAR):{BAR}}  {short(label)}" for label, probability in
            result]
    if len(rows) == 1:
        print(f"{plain(name):{max(width, NARROWEST)}} {rows[0]}")
    else:
        print("", plain(name), *(f"  {row}" for row in rows), sep="\n")


def exit_code(bad: int, count: int, unlisted=(), more: str = "") -> int:
    """1 if some photos could not be read (reported on stderr, with `more` appended) or some folders not listed."""
    if bad:
        say(f"{bad:,} of {counted(count, 'photo')} could not be read{more}")
    return 1 if bad or unlisted else 0
