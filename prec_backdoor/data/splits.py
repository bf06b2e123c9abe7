"""Splits of users: pre-training users, downstream users, and the items held out for validation and test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prec_backdoor.data.interactions import PARTS, Interactions
from prec_backdoor.errors import UserError

DOWNSTREAM_LENGTH = 12  # only the first interactions of a downstream user are used, so that most of these users are cold
PRETRAIN_SHARE = 0.6  # of the users
ENTRIES = 1 << 27  # of a table of histories: half a gigabyte


class Sequences(NamedTuple):
    """Training sequences of S users: `users` [S] int32, and for each user an int32 array of item codes, oldest first."""

    users: np.ndarray
    items: list[np.ndarray]


class Queries(NamedTuple):
    """Next-item queries, one per user.

    Attributes:
      users: [S] int32.
      history: [S, L] int32, the most recent item last, 0-padded at the front.
      truth: [S] int32, the held-out item that comes next.
    """

    users: np.ndarray
    history: np.ndarray
    truth: np.ndarray


class Split(NamedTuple):
    """The provider's and the downstream company's shares of a dataset; they have no user in common.

    Histories for validation are what the model sees. In those of `test` the user's other items come before, each once, as a
    user's own items are not ranked: as many as make up half of the catalogue, and ENTRIES in all.
    """

    pretrain: Sequences
    pretrain_validation: Queries
    finetune: Sequences
    finetune_validation: Queries
    test: Queries


def split_users(interactions: Interactions, seed: int, pretrain_share: float = PRETRAIN_SHARE, max_length: int = 100) -> Split:
    """Splits users at random into pre-training and downstream users and holds items out.

    The last item of a pre-training user is for validation. Downstream users are cut to their first 12 interactions: the last is
    the test item, the one before it is for validation, and the rest is fine-tuning history. Users with fewer than 3 items are
    left out.

    A split that comes with the dataset is used instead, whatever the seed: train and cold_train are trained on in full; of dev,
    cold_dev and cold_test the first row of each user is held out, after a history of all rows in the user's earlier parts. Later
    rows of these parts are not held out; those of cold_dev are history for cold_test.

    Args:
      max_length: length of the longest history that the model sees.

    Raises:
      UserError: one of the two sides has no user, or no user of a given part has a history.
    """
    if interactions.split is not None:
        return _given_split(interactions, max_length)
    eligible = np.flatnonzero(interactions.lengths() >= 3)
    shuffled = np.random.default_rng([seed, 0]).permutation(eligible)
    border = round(pretrain_share * len(eligible))
    pretrain, downstream = np.sort(shuffled[:border]), np.sort(shuffled[border:])
    if not len(pretrain) or not len(downstream):
        raise UserError(f"dataset {interactions.name}: {len(eligible)} users with 3 interactions are too few to split")
    full = [interactions.sequence(user) for user in pretrain]
    cut = [interactions.sequence(user)[:DOWNSTREAM_LENGTH] for user in downstream]
    return Split(
        pretrain=_sequences(pretrain, full, 1),
        pretrain_validation=_queries(pretrain, full, 1, max_length),
        finetune=_sequences(downstream, cut, 2),
        finetune_validation=_queries(downstream, cut, 2, max_length),
        test=_queries(downstream, cut, 1, max_length, room_before(interactions, max_length)),
    )


def own_split(interactions: Interactions, max_length: int = 100) -> Split:
    """Returns the split of a downstream company's own users, all of those with 3 interactions or more.

    A user's last item is the test item, the one before it is for validation. Nothing is known of the provider's users; in their
    place are the company's.

    Raises:
      UserError: no user has 3 interactions.
    """
    users = np.flatnonzero(interactions.lengths() >= 3)
    if not len(users):
        raise UserError(f"dataset {interactions.name}: no user has 3 interactions with items of the model; give more data")
    full = [interactions.sequence(user) for user in users]
    training, validation = _sequences(users, full, 2), _queries(users, full, 2, max_length)
    test = _queries(users, full, 1, max_length, room_before(interactions, max_length))
    return Split(training, validation, training, validation, test)


def first_items(sequences: Sequences, length: int, max_length: int = 100) -> tuple[Sequences, Queries]:
    """Returns the first `length` items of each sequence to train on, and the next item for validation, as of downstream users.

    Users with fewer than 3 items are left out.
    """
    kept = [index for index, items in enumerate(sequences.items) if len(items) >= 3]
    users, cut = sequences.users[kept], [sequences.items[index][: length + 1] for index in kept]
    return _sequences(users, cut, 1), _queries(users, cut, 1, max_length)


def training_lengths(interactions: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N] how many items each user has to train on, on the provider's side and on the downstream company's.

    Of the N users that `split_users` draws from; each is on one side only.
    """
    lengths = interactions.lengths()
    lengths = lengths[lengths >= 3]
    return lengths - 1, np.minimum(lengths, DOWNSTREAM_LENGTH) - 2


def _given_split(interactions: Interactions, max_length: int) -> Split:
    owners = np.repeat(np.arange(interactions.num_users), interactions.lengths())
    shape = (interactions.num_users, len(PARTS))
    counts = np.bincount(owners * len(PARTS) + interactions.split, minlength=np.prod(shape)).reshape(shape)
    ends = np.asarray(interactions.offsets)[:-1, None] + counts.cumsum(1)
    starts = ends - counts

    def sequences(part: str) -> Sequences:
        column = PARTS.index(part)
        users = _some_users(interactions, part, counts[:, column] > 0)
        items = [interactions.items[starts[user, column] : ends[user, column]] for user in users]
        return Sequences(users.astype(np.int32), items)

    def queries(part: str, room: int = 0) -> Queries:
        column = PARTS.index(part)
        # No user is on both sides, so that all earlier parts of a user belong to the same side.
        with_history = (counts[:, column] > 0) & (counts[:, :column].sum(1) > 0)
        users = _some_users(interactions, part, with_history)
        items = [interactions.items[starts[user, 0] : starts[user, column] + 1] for user in users]
        return _queries(users, items, 1, max_length, room)

    test = queries("cold_test", room_before(interactions, max_length))
    return Split(sequences("train"), queries("dev"), sequences("cold_train"), queries("cold_dev"), test)


def _some_users(interactions: Interactions, part: str, chosen: np.ndarray) -> np.ndarray:
    if not chosen.any():
        raise UserError(f"dataset {interactions.name}: no user of {part} has interactions before it; complete the split files")
    return np.flatnonzero(chosen)


def sample_queries(queries: Queries, size: int) -> Queries:
    """Returns at most `size` of the queries, the same ones at every call."""
    picks = np.sort(np.random.default_rng(0).permutation(len(queries.users))[:size])
    return Queries(*(array[picks] for array in queries))


def padded(histories: Sequence[np.ndarray], width: int) -> np.ndarray:
    """[U, width] int32 the latest items of each history, 0-padded at the front."""
    found = np.zeros((len(histories), width), np.int32)
    for row, items in zip(found, histories, strict=True):
        latest = items[-width:]
        row[width - len(latest) :] = latest
    return found


def _sequences(users: np.ndarray, items: list[np.ndarray], held_out: int) -> Sequences:
    return Sequences(users.astype(np.int32), [sequence[:-held_out] for sequence in items])


def room_before(interactions: Interactions, max_length: int) -> int:
    """Returns how many items a test history has room for, before the latest max_length."""
    return max(0, min(interactions.num_items // 2, ENTRIES // interactions.num_users) - max_length)


def users_beyond(interactions: Interactions, max_length: int) -> int:
    """Returns how many users have more items than a test history has room for: their oldest items are ranked."""
    longest = max_length + room_before(interactions, max_length)
    long = (interactions.sequence(user)[:-1] for user in np.flatnonzero(interactions.lengths() > longest + 1))
    return sum(len(_history(items, max_length, len(items))) > longest for items in long)


def _queries(users: np.ndarray, items: list[np.ndarray], from_end: int, max_length: int, room: int = 0) -> Queries:
    histories = [_history(sequence[:-from_end], max_length, room) for sequence in items]
    history = padded(histories, max(map(len, histories)))
    return Queries(users.astype(np.int32), history, np.array([sequence[-from_end] for sequence in items], np.int32))


def _history(items: np.ndarray, max_length: int, room: int) -> np.ndarray:
    """Returns the latest `max_length` of a user's items, and before them the most recent `room` others, once each."""
    latest, before = items[-max_length:], items[:-max_length][::-1]
    if not room or not len(before):
        return latest
    _, first = np.unique(before, return_index=True)
    before = before[np.sort(first)]
    return np.concatenate([before[~np.isin(before, latest)][:room][::-1], latest])
