"""Say what is on photos.

For each photo the most probable classes with their probability. A photo that can't be read is reported on stderr, the
others go on, and the exit code is 1 at the end. --demo needs no photo and no network: it shows the embedded model, a
Lite0 trained on scikit-learn's handwritten digits, on ten digits that it has not seen.
"""
BAR = 20  # characters


def add_arguments(parser):
    parser.add_argument("photos", metavar="PHOTO", nargs="*", help="any picture that Pillow reads")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--model", metavar="NAME", help="lite0 to lite4 with the official ImageNet weights, which are "
                                                         "fetched on first use (default: lite0)")
    weights.add_argument("--weights", metavar="FILE", help="a weight file (.h5) or checkpoint (.pth, .safetensors)")
    weights.add_argument("--demo", action="store_true", help="use the embedded digit model; without photos, on its own")
    parser.add_argument("--topk", metavar="K", type=int,
                        help="how many classes to show (default: 5; 1 for the demo's own pictures)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line for every photo")
    parser.add_argument("--threads", metavar="N", type=int, help="processors to use (default: all that are allowed)")
    parser.add_argument("--exif", action="store_true", help="turn photos as their EXIF data say (timm does not)")


def run(args) -> int:
    import sys

    from ..errors import ArgumentError, ImageError
    from ..image import open_image

    photos, topk = _photos(args), args.topk
    if topk is None:
        topk = 5 if args.photos else 1
    if topk < 1:
        raise ArgumentError(f"--topk {topk}: it must be at least 1")
    model = _model(args)
    if not args.json:
        print(model)
    bad = 0
    for name, photo in photos:
        try:
            result = model.classify(open_image(photo, exif=args.exif), topk=topk)
        except ImageError as error:
            bad += 1
            print(f"npefficient: error: {error}", file=sys.stderr)
        else:
            _print(name, result, args.json)
    if bad:
        print(f"npefficient: {bad} of {len(photos)} photos could not be read", file=sys.stderr)
    return 1 if bad else 0


def _photos(args) -> list[tuple]:
    """(what to call it, where it is) for each photo."""
    from ..errors import ArgumentError

    if args.photos:
        return [(photo, photo) for photo in args.photos]
    if args.demo:
        from ..demo import photos

        return [(photo.name, photo) for photo in photos()]
    raise ArgumentError("no photo given: name one or more, or try 'npefficient classify --demo'")


def _model(args):
    import sys

    from ..engine import compiled
    from ..model import create_model

    if args.demo:
        from ..demo import weights_path

        model = create_model(checkpoint_path=weights_path(), num_threads=args.threads)
    elif args.weights:
        model = create_model(checkpoint_path=args.weights, num_threads=args.threads)
    else:
        model = create_model(args.model or "lite0", pretrained=True, num_threads=args.threads)
    compiled.driver(lambda text: print(text, file=sys.stderr, flush=True))
    return model


def _print(name: str, result, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"photo": name, "classes": [{"label": n, "probability": p} for n, p in result]}))
        return
    rows = [f"{probability:7.2%}  {'#' * round(probability * BAR):{BAR}}  {label}" for label, probability in result]
    if len(rows) == 1:
        print(f"{name:12}{rows[0]}")
    else:
        print("", name, *(f"  {row}" for row in rows), sep="\n")
