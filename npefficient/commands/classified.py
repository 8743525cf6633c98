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


def show(name: str, row: dict, as_json: bool, width: int = 0) -> bool:
    """Print a row of `jobs.rows`, an error on stderr; True for an error. width: of the name column, for one class."""
    if as_json:
        import json

        print(json.dumps(row | {"photo": name}))  # the name as given; a file's rows have it escaped
    if row["error"] is not None:
        say(f"error: {row['error']}")
    elif not as_json:
        _show(name, row["classes"], width)
    return row["error"] is not None


def _show(name: str, classes: list[dict], width: int) -> None:
    rows = [f"{found['probability']:7.2%}  {'#' * round(found['probability'] * BAR):{BAR}}  {short(found['label'])}"
            for found in classes]
    if len(rows) == 1:
        print(f"{plain(name):{max(width, NARROWEST)}} {rows[0]}")
    else:
        print("", plain(name), *(f"  {row}" for row in rows), sep="\n")


def exit_code(bad: int, count: int, unlisted=(), more: str = "") -> int:
    """1 if some photos could not be read (reported on stderr, with `more` appended) or some folders not listed."""
    if bad:
        say(f"{bad:,} of {counted(count, 'photo')} could not be read{more}")
    return 1 if bad or unlisted else 0
