"""What a benchmark or `profile` writes with --json."""
import json


def tables(path) -> dict:
    """A JSON file's tables -> their rows."""
    return json.loads(path.read_text())["tables"]
