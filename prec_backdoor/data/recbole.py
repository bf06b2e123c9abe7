"""RecBole atomic files: NAME.inter or its benchmark parts, NAME.user and NAME.item, with typed headers (recbole.io/docs)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prec_backdoor.data import atomic, checks, lines
from prec_backdoor.data.attributes import read_attributes
from prec_backdoor.data.categories import read_features
from prec_backdoor.data.columns import check_columns
from prec_backdoor.data.events import read_events
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.data.summary import listed
from prec_backdoor.data.tables import rated_name, to_interactions


def read(
    folder: str | Path,
    skipped: Counter | None = None,
    columns: Mapping[str, str] | None = None,
    min_rating: float | None = None,
) -> Interactions:
    """Returns a folder's dataset: sequences by time, profiles, each item's first category.

    The order is that of the column timestamp, of the only other column of times, of item_id_list, or else of the rows. Without a
    .user file there are no attributes, without an .item file all categories are unknown. `notes` say what was used.

    Args:
      skipped: see `lines.File`.
      columns: role -> column, see `columns.ROLES`.
      min_rating: see `feedback.rated`.

    Raises:
      UserError: no .inter file or several, a malformed one (file and line), and what `read_events`, `read_attributes` and
        `read_features` refuse; a .user or .item file without any id of the .inter file.
    """
    columns, found = check_columns(columns), atomic.find(Path(folder))
    first = atomic.read_table(lines.File(found.parts[0], skipped))
    tables = [first, *(atomic.read_table(lines.File(path, skipped), first) for path in found.parts[1:])]
    events = read_events(tables, columns, min_rating)
    counts, notes = events.counts, events.notes
    users, items, left_out = None, None, {name: "not read" for name in found.left_out}
    if (path := found.parts[0].with_name(f"{found.name}.user")).exists():
        users, reasons = read_attributes(atomic.read_table(lines.File(path, skipped)), columns)
        checks.check_match(path, users["user"], events.frame["user"], "the .inter file")
        left_out |= reasons
    if (path := path.with_suffix(".item")).exists():
        items, notes["category"], reasons = read_features(atomic.read_table(lines.File(path, skipped)), columns)
        checks.check_match(path, items["item"], events.frame["item"], "the .inter file")
        left_out |= reasons
    if left_out:
        notes["left out"] = listed(f"{lines.shorten(name)} ({why})" for name, why in left_out.items())
    return to_interactions(rated_name(found.name, min_rating), events.frame, users, items, counts, notes)
