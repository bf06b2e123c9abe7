"""A checkpoint with the company's items: rows for those that it does not know, from their category and their neighbours; none
for those that the company does not offer.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from prec_backdoor.data.vocabulary import vocabulary_of
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.parallel.item_table import TABLES
from prec_backdoor.storage.checkpoints import Checkpoint

PRIOR = 10.0  # neighbours that count as much as the category
BLOCK = 1 << 19  # entries of histories at a time


def widened(checkpoint: Checkpoint, setup: SeedSetup) -> Checkpoint:
    """Returns the checkpoint with a row for each item of `setup`, on a company's own data, and the vocabulary of these.

    Rows that the checkpoint has stay as they are. The items after them are new.
    """
    data, histories = setup.interactions, setup.test.history  # without the test items
    tables = {
        name: new_rows(np.asarray(checkpoint.params[name]), np.asarray(data.category), histories)
        for name in TABLES
        if name in checkpoint.params
    }
    return _with_tables(checkpoint, setup, tables)


def narrowed(checkpoint: Checkpoint, setup: SeedSetup, kept: np.ndarray) -> Checkpoint:
    """Returns the checkpoint with the rows of the items `kept` alone, the items of `setup`, and the vocabulary of these."""
    rows = np.concatenate([[0], kept])
    tables = {name: np.asarray(checkpoint.params[name])[rows] for name in TABLES if name in checkpoint.params}
    return _with_tables(checkpoint, setup, tables)


def _with_tables(checkpoint: Checkpoint, setup: SeedSetup, tables: dict[str, np.ndarray]) -> Checkpoint:
    return checkpoint._replace(
        params=checkpoint.params | tables,
        model=dataclasses.replace(checkpoint.model, num_items=setup.interactions.num_items),
        vocabulary=vocabulary_of(setup.interactions),
    )


def new_rows(table: np.ndarray, category: np.ndarray, histories: np.ndarray) -> np.ndarray:
    """Returns [V + N + 1, D]: `table` [V + 1, D], with rows for N new items, whose codes come after those of the V known ones.

    A new row is the mean of the known items of its category (of all of them, if the category is unknown or new), plus the mean
    residual of the known items in the same histories, where the residual of an item is what it has beyond the mean of its own
    category. With few neighbours the mean residual is shrunk towards 0. A mean is shorter than what it is the mean of, and scores
    are products: a new vector is stretched to the median length of the known ones, the less the fewer neighbours it has.

    Args:
      category: [V + N + 1] codes; 0 is unknown.
      histories: [U, L] item codes, 0-padded.
    """
    known = len(table) - 1
    means = _category_means(table, category)
    residual = np.where(np.arange(known + 1)[:, None] > 0, table - means[category[: known + 1]], 0)
    sums, counts = np.zeros((len(category) - known - 1, table.shape[1])), np.zeros(len(category) - known - 1)
    for block, users, items in _new_items(histories, known):
        neighbours = np.where(block <= known, block, 0)
        np.add.at(sums, items - known - 1, residual[neighbours].sum(1)[users])
        np.add.at(counts, items - known - 1, (neighbours > 0).sum(1)[users])
    rows = means[category[known + 1 :]] + sums / (counts + PRIOR)[:, None]
    if table.shape[1] > 1:  # a bias has no length
        lengths, usual = np.linalg.norm(rows, axis=1), np.median(np.linalg.norm(table[1:], axis=1))
        wanted = lengths + (usual - lengths) * counts / (counts + PRIOR)
        rows *= np.where(lengths > 0, wanted / np.maximum(lengths, 1e-12), 1)[:, None]
    return np.concatenate([table, rows.astype(table.dtype)])


def _category_means(table: np.ndarray, category: np.ndarray) -> np.ndarray:
    """[C, D] float64, mean row of the known items of each category; that of all for category 0 and for one without any."""
    rows, codes = table[1:].astype(np.float64), category[1 : len(table)]
    means = np.tile(rows.mean(0), (int(category.max()) + 1, 1))
    for code in np.unique(codes[codes > 0]):
        means[code] = rows[codes == code].mean(0)
    return means


def _new_items(histories: np.ndarray, known: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (block of histories, users, items): each pair of a user of the block and a new item in the history, once."""
    number = max(1, BLOCK // max(1, histories.shape[1]))
    for start in range(0, len(histories), number):
        block = histories[start : start + number]
        users, places = np.nonzero(block > known)
        pairs = np.unique(np.stack([users, block[users, places]], 1), axis=0)
        yield block, *pairs.T
