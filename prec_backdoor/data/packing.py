"""Training rows: the positions of all sequences, packed with little padding, and the room that they need."""

import functools
import math
from typing import NamedTuple

import numpy as np

from prec_backdoor.data.splits import Sequences

SAMPLE = 20_000  # users by whom the room of rows is estimated


class Rows(NamedTuple):
    """Packed training rows: R rows of T positions, up to S segments (windows of one user) in a row.

    Attributes:
      history: [R, T] int32, the item at each position; 0 is padding.
      label: [R, T] int32, the next item; 0 where nothing is predicted.
      position: [R, T] int32, index in the model's window; the last item of every window has index T - 1.
      segment: [R, T] int32, the window of the row that a position belongs to, 1..S; 0 is padding.
      user: [R, S] int32, the user of each segment; -1 for segments that a row does not have.
    """

    history: np.ndarray
    label: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    user: np.ndarray


def pack(
    sequences: Sequences, max_length: int, windows: str = "recent", longest: int | None = None, segments: int | None = None
) -> Rows:
    """Cuts sequences into windows and packs the windows into rows of T = max_length positions by best fit.

    A sequence of n items has n - 1 positions, each in at most one window. Windows of a row do not attend to each other: models
    mask by segment.

    Args:
      windows: "recent" takes the most recent positions of each sequence, as SASRec does (Kang & McAuley, ICDM 2018, section
        III); "all" cuts longer sequences into several windows, so that every position is trained.
      longest: maximum number of positions of a window; T by default.
      segments: number of segments S that a row has room for; by default as many as are needed.
    """
    cut = [
        (index, start, end)
        for index, items in enumerate(sequences.items)
        for start, end in _windows(len(items), windows, longest or max_length)
    ]
    cut.sort(key=lambda window: window[1] - window[2])
    placed, rows = _best_fit([end - start for _, start, end in cut], max_length, segments or max_length)
    segments = segments or 1 + max((segment for _, segment, _ in placed), default=0)
    result = Rows(*(np.zeros((rows, max_length), np.int32) for _ in range(4)), user=np.full((rows, segments), -1, np.int32))
    for (index, start, end), (row, segment, offset) in zip(cut, placed, strict=True):
        length = end - start
        at = slice(offset, offset + length)
        result.history[row, at] = sequences.items[index][start:end]
        result.label[row, at] = sequences.items[index][start + 1 : end + 1]
        result.position[row, at] = np.arange(max_length - length, max_length)
        result.segment[row, at] = segment + 1
        result.user[row, segment] = sequences.users[index]
    return result


def _windows(length: int, windows: str, longest: int) -> list[tuple[int, int]]:
    """The windows of a sequence of `length` items, most recent first, each as the range of its positions."""
    cut = [(max(0, end - longest), end) for end in range(length - 1, 0, -longest)]
    return cut if windows == "all" else cut[:1]


class Room(NamedTuple):
    """Sizes of training arrays that do not depend on which users are drawn, so that all draws share one compiled program.

    Attributes:
      rows: of a chunk on the devices, at least (see `TrainLoader`).
      segments: of a row (see `pack`).
      entries, most: items seen by all users, and by one (see `user_tables`).
    """

    rows: int = 0
    segments: int | None = None
    entries: int = 0
    most: int = 0


def room_for(lengths: np.ndarray, share: float, max_length: int, windows: str = "recent", longest: int | None = None) -> Room:
    """Returns the room for a random `share` of users with `lengths` [N] items each; arguments as of `pack`.

    Four standard deviations above the mean; a draw that takes more is compiled for itself. Rows have room for half as many
    segments again as they hold on average, or for more if that would make more than 2 % more rows. Equal arguments are computed
    once: all seeds of a dataset have the same room.
    """
    return _room(np.asarray(lengths, np.int64).tobytes(), share, max_length, windows, longest)


@functools.lru_cache(maxsize=8)
def _room(lengths: bytes, share: float, max_length: int, windows: str, longest: int | None) -> Room:
    lengths = np.frombuffer(lengths, np.int64)

    def at_most(total: float, of_a_user: np.ndarray) -> int:
        return math.ceil(share * total + 4 * np.sqrt(len(lengths) * share * (1 - share)) * of_a_user.std())

    picked = lengths if len(lengths) <= SAMPLE else np.random.default_rng(0).choice(lengths, SAMPLE, replace=False)
    cut = [_windows(length, windows, longest or max_length) for length in picked.tolist()]
    positions = np.array([sum(end - start for start, end in each) for each in cut])
    sizes = sorted((end - start for each in cut for start, end in each), reverse=True)
    least = _best_fit(sizes, max_length, max_length)[1]
    segments = 1 + math.ceil(1.5 * len(sizes) / max(least, 1))
    while segments < max_length and (rows := _best_fit(sizes, max_length, segments)[1]) > 1.02 * least:
        segments *= 2
    rows = least if segments >= max_length else rows
    return Room(
        rows=1 + at_most(rows * len(lengths) / len(picked), positions / max_length),
        segments=min(segments, max_length),
        entries=at_most(lengths.sum(), lengths),
        most=int(lengths.max()),
    )


def _best_fit(lengths: list[int], capacity: int, most: int) -> tuple[list[tuple[int, int, int]], int]:
    """Places lengths, longest first, each in the fullest row with room for it that has fewer than `most` segments.

    Returns (row, segment, offset) of each, and the number of rows.
    """
    with_room = [[] for _ in range(capacity + 1)]  # by room left: rows as (row, segments so far)
    has_rows = 0  # bit r is set where with_room[r] is not empty
    placed, rows = [], 0
    for length in lengths:
        fitting = has_rows >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row, segment = with_room[room].pop()
            if not with_room[room]:
                has_rows &= ~(1 << room)
        else:
            room, row, segment = capacity, rows, 0
            rows += 1
        placed.append((row, segment, capacity - room))
        if room > length and segment + 1 < most:
            with_room[room - length].append((row, segment + 1))
            has_rows |= 1 << (room - length)
    return placed, rows
