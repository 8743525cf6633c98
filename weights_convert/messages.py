"""Values from outside, made fit for an error message: quoted, shortened, never more than a line."""

_PLAIN = (type(None), bool, int, float)


def quoted(value, limit: int = 80) -> str:
    """Quote a value that a file supplied; containers are named, never printed: nested ones print exponentially long."""
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}... ({len(value)} long)"
    if isinstance(value, _PLAIN):
        text = repr(value)
        return text if len(text) <= limit else f"{text[:limit]}..."
    name = type(value).__name__.lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def listed(names, limit: int = 8) -> str:
    """Quote the first few of many names."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(quoted(name) for name in names[:limit]) + rest
