"""JSON of strangers."""
import json

from npefficient.common.text import quoted
from npefficient.errors import WeightsError


def read_json(raw: bytes, what: str):
    """Parse UTF-8 JSON, `what` in messages; raises WeightsError for what is none, and for a name that comes twice."""
    def once(pairs) -> dict:  # Python's own reader takes the last of two equal names, and NaN
        made = {}
        for name, value in pairs:
            if name in made:
                raise WeightsError(f"the name {quoted(name)} is twice in {what}")
            made[name] = value
        return made

    def no_constant(text):
        raise WeightsError(f"{what} holds {text!r}, which is not JSON")

    try:
        return json.loads(raw.decode(), object_pairs_hook=once, parse_constant=no_constant)
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{what} is not JSON ({quoted(str(error))}): the file is damaged") from None
