"""Read untrusted JSON strictly."""
import json

from npefficient.common.text import quoted
from npefficient.errors import WeightsError


def read_json(raw: bytes, what: str):
    """Parse UTF-8 JSON, named `what` in errors; raises WeightsError for invalid JSON and for a repeated name."""
    def once(pairs) -> dict:  # Python's own reader takes the last of two equal names, and accepts NaN
        made = {}
        for name, value in pairs:
            if name in made:
                raise WeightsError(f"the name {quoted(name)} appears twice in {what}")
            made[name] = value
        return made

    def no_constant(text):
        raise WeightsError(f"{what} contains {text!r}, which is not valid JSON")

    try:
        return json.loads(raw.decode(), object_pairs_hook=once, parse_constant=no_constant)
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{what} is not valid JSON ({quoted(str(error))}): the file is damaged") from None
