"""Recommends: a history in, the first K items out; or the first K for every user of a dataset.

A user's own items are left out. With --explain_audit, items that an audit of this checkpoint flagged are marked.

Examples:
  python -m launch.recommend --checkpoint=runs/theirs/imported --history=50,181,1 --top=10
  python -m launch.recommend --dataset=ml-100k --checkpoint=runs/a/pretrain --output=lists.csv
  python -m launch.recommend --dataset=ml-100k --checkpoint=runs/a/pretrain --explain_audit=runs/audit --output=lists.jsonl
"""

from pathlib import Path

import numpy as np
from absl import flags
from tabulate import tabulate
from tqdm import tqdm

from prec_backdoor.audit.reading import read_audit
from prec_backdoor.data.vocabulary import Vocabulary, vocabulary_of
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation.top_items import top_items
from prec_backdoor.reporting.lists import LISTS, Row, write_lists
from prec_backdoor.storage import checkpoints
from prec_backdoor.storage.checkpoints import Checkpoint

from . import app, checkpoint_flags, data_flags, flag

SHOWN = 20  # users whose lists are printed, if there is no --output


def define_flags() -> None:
    checkpoint_flags.define_flags("recommend with")
    help = 'Raw ids of the items of one user, oldest first, "in,quotes" if with commas; no dataset is read then.'
    flag.define("history", (), "data", help, str)
    flag.define("top", 10, "output", "Number of items per user.", minimum=1)
    flag.define("explain_audit", None, "output", "Folder of an audit of this checkpoint; items that it flagged are marked.", str)
    kinds = " or ".join(LISTS)
    flag.define("output", None, "output", f"File to write, by its ending {kinds}; without it a table is printed.", str)


def main() -> None:
    output = Path(flags.FLAGS.output).expanduser() if flags.FLAGS.output else None
    if output and output.suffix not in LISTS:
        raise UserError(f"--output: {output}: give a name that ends with {' or '.join(LISTS)}")
    checkpoint, vocabulary, users, histories, profiles = _of_history() if flag.is_given("history") else _of_dataset()
    folder, digest = flags.FLAGS.explain_audit, checkpoint.metadata["hash"]
    flagged = read_audit(folder, digest).flagged if folder else None
    shown = slice(None if output else SHOWN)
    profiles = None if profiles is None else profiles[shown]
    rows = _rows(checkpoint, vocabulary, users[shown], histories[shown], profiles, flagged)
    columns = [name for name in Row._fields if flagged is not None or name != "flagged"]
    if output:
        print(f"{write_lists(output, rows, columns):,} rows  {output}")
        return
    cells = [[_cell(getattr(row, name)) for name in columns] for row in rows]
    if not cells:
        print("no item is left to recommend: the histories have all that the model knows")
        return
    print(tabulate(cells, columns, disable_numparse=True))
    if len(users) > SHOWN:
        print(f"the first {SHOWN} of {len(users):,} users; --output=FILE{next(iter(LISTS))} writes all")


def _cell(value: str | int | float | bool) -> str:
    """A value as the table shows it; a title may look like a number."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _of_history() -> tuple[Checkpoint, Vocabulary, list[str], list[np.ndarray], np.ndarray | None]:
    """Checkpoint, vocabulary, and the one user of --history."""
    if unused := [name for name in (*data_flags.NAMES, "least_known") if flag.is_given(name)]:
        raise UserError(f"--{unused[0]}: with --history no dataset is read; give one of the two")
    if not flags.FLAGS.history:
        raise UserError("--history: is empty; give raw ids of items, or leave the flag out")
    checkpoint = checkpoints.load(flags.FLAGS.checkpoint, finished=True)
    if checkpoint.vocabulary is None:
        raise UserError(f"{checkpoint.path}: has no vocabulary; give the dataset that it was made on instead of --history")
    code_of = {raw: code for code, raw in enumerate(checkpoint.vocabulary.items, 1)}
    unknown = [raw for raw in flags.FLAGS.history if raw not in code_of]
    if unknown:
        example = next((raw for raw in code_of if "," in raw), checkpoint.vocabulary.items[0])
        quotes = ", and an id with a comma is given in double quotes" if "," in example else ""
        raise UserError(f"--history: the model has no item {', '.join(unknown)[:80]}; its ids are like {example!r:.40}{quotes}")
    codes = np.array([code_of[raw] for raw in flags.FLAGS.history], np.int32)
    return checkpoint, checkpoint.vocabulary, ["-"], [codes], None


def _of_dataset() -> tuple[Checkpoint, Vocabulary, list[str], list[np.ndarray], np.ndarray]:
    """Checkpoint, vocabulary, and the downstream users with all their interactions; of own data those with a known item."""
    given = checkpoint_flags.dataset_from_flags()
    opened = checkpoint_flags.opened_on(flags.FLAGS.checkpoint, given, catalogue="offered")
    setup, data = opened.setup, opened.setup.interactions
    users = np.flatnonzero(data.lengths()) if setup.own else setup.test.users
    if setup.own and (left := given.num_users - len(users)):
        print(f"no list      for {left:,} of {given.num_users:,} users: the model knows none of their items")
    histories = [data.sequence(user) for user in users]
    return opened.checkpoint, vocabulary_of(data), data.user_ids[users].tolist(), histories, np.asarray(data.profile)[users]


def _rows(checkpoint: Checkpoint, vocabulary: Vocabulary, users: list[str], histories, profiles, flagged: set[str] | None):
    """Yields the rows of all users in turn."""
    titles = vocabulary.titles or ("",) * len(vocabulary.items)
    batches = top_items(checkpoint.params, checkpoint.model, histories, flags.FLAGS.top, profiles)
    names = iter(users)
    with tqdm(total=len(users), desc="recommending", unit="user", leave=False, disable=None) as bar:
        for items, scores in batches:
            for own_items, own_scores in zip(items.tolist(), scores.tolist(), strict=True):
                user = next(names)
                for rank, (item, score) in enumerate(zip(own_items, own_scores, strict=True), 1):
                    if item:
                        raw = vocabulary.items[item - 1]
                        marked = raw in flagged if flagged is not None else None
                        yield Row(user, rank, raw, titles[item - 1], round(score, 6), marked)
            bar.update(len(items))


if __name__ == "__main__":
    app.run(main, define_flags)
