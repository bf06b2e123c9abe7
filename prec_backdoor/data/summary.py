"""One line that says what was read."""

from prec_backdoor.data.interactions import Interactions

MOST_SHOWN = 6  # names in a list


def one_line(interactions: Interactions) -> str:
    """Returns name, users, items and interactions, the users with profiles, what was used and what was left out."""
    users = f"{interactions.num_users:,}"
    parts = [f"{users} users, {interactions.num_items:,} items, {len(interactions.items):,} interactions"]
    if interactions.attributes:
        without = interactions.counts.get("users without a profile", 0)
        parts.append(f"profiles of {interactions.num_users - without:,} users ({listed(interactions.attributes)})")
    else:
        parts.append("no profiles")
    parts += [f"{what} {text}" for what, text in interactions.notes.items()]
    return " ".join(f"{interactions.name}: {'; '.join(parts)}".split())


def listed(names) -> str:
    """Returns names joined by commas, the first six and how many more."""
    names = list(names)
    more = [f"and {len(names) - MOST_SHOWN} more"] if len(names) > MOST_SHOWN else []
    return ", ".join(names[:MOST_SHOWN] + more)
