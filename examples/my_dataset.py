"""Template: a reader of raw files. Here: clicks.csv with a header and the columns user, item, time, perhaps users.csv.

python -m launch.experiment --plugin=examples/my_dataset.py --dataset=my-shop --data_dir=FOLDER --group=country=NL
"""

from collections import Counter
from pathlib import Path

import polars as pl

from prec_backdoor.data import Interactions
from prec_backdoor.data.tables import to_interactions
from prec_backdoor.errors import UserError
from prec_backdoor.extend import register_dataset


def read(folder: Path, skipped: Counter | None = None) -> Interactions:
    """Reads the clicks as interactions; every column of users.csv but `user` is a profile attribute.

    Args:
      skipped: counts rows that are left out, by reason; None: they are a mistake (--on_bad_rows).
    """
    clicks, users = Path(folder) / "clicks.csv", Path(folder) / "users.csv"
    if not clicks.exists():
        raise UserError(f"{clicks}: no such file; --data_dir is the folder that holds it")
    events = pl.read_csv(clicks, infer_schema=False).select("user", "item", pl.col("time").cast(pl.Float64, strict=False))
    whole = events.drop_nulls()
    if bad := events.height - whole.height:
        if skipped is None:
            raise UserError(f"{clicks}: {bad} rows lack a field; mend them, or leave them out with --on_bad_rows=skip")
        skipped["a field is missing"] += bad
    profiles = pl.read_csv(users, infer_schema=False).unique("user", maintain_order=True) if users.exists() else None
    return to_interactions("my-shop", whole, profiles)


register_dataset("my-shop", read, group="country=NL")
