"""The configurations of a run."""

LISTS = ("rate", "usages", "seeds", "evade")  # lists in a single configuration too


def configurations(merged: dict) -> list[dict]:
    """Returns each configuration of a run from the "config" of its results, where fields that differ hold a list of values."""
    differing = {
        name
        for name, value in merged.items()
        if isinstance(value, list) and (name not in LISTS or (value and isinstance(value[0], list)))
    }
    number = max((len(merged[name]) for name in differing), default=1)
    return [{name: value[n] if name in differing else value for name, value in merged.items()} for n in range(number)]
