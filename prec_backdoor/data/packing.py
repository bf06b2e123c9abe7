"""Training rows: the positions of all sequences, packed with little padding."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.data.splits import Sequences


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


def pack(sequences: Sequences, max_length: int, windows: str = "recent", longest: int | None = None) -> Rows:
    """Cuts sequences into windows and packs the windows into rows of T = max_length positions by best fit.

    A sequence of n items has n - 1 positions, each in at most one window. Windows of a row do not attend to each other: models
    mask by segment.

    Args:
      windows: "recent" takes the most recent positions of each sequence, as SASRec does (Kang & McAuley, ICDM 2018, section
        III); "all" cuts longer sequences into several windows, so that every position is trained.
      longest: maximum number of positions of a window; T by default.
    """
    longest = longest or max_length
    cut = [
        (index, max(0, end - longest), end)
        for index, items in enumerate(sequences.items)
        for end in range(len(items) - 1, 0, -longest)
        if windows == "all" or end == len(items) - 1
    ]
    cut.sort(key=lambda window: window[1] - window[2])
    placed, rows = _best_fit([end - start for _, start, end in cut], max_length)
    segments = 1 + max((segment for _, segment, _ in placed), default=0)
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


def _best_fit(lengths: list[int], capacity: int) -> tuple[list[tuple[int, int, int]], int]:
    """Places lengths, longest first, each in the fullest row with room for it.

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
        if room > length:
            with_room[room - length].append((row, segment + 1))
            has_rows |= 1 << (room - length)
    return placed, rows
