import random

import pytest

from prec_backdoor.data import recbole
from prec_backdoor.errors import UserError


def write(folder, name, rows):
    lines = ["user_id:token\titem_id_list:token_seq\titem_id:token", *("\t".join(row) for row in rows)]
    (folder / f"shop.{name}.inter").write_text("\n".join(lines) + "\n")
    return folder


def sequences(folder):
    data = recbole.read(folder)
    return {str(user): data.item_ids[data.sequence(index)].tolist() for index, user in enumerate(data.user_ids)}


def rows_of(user, items, window=None):
    return [(user, " ".join(items[:end][-(window or len(items)) :]), items[end]) for end in range(1, len(items))]


@pytest.mark.parametrize("window", [None, 3, 2])
def test_rows_in_any_order_give_the_sequences(tmp_path, window):
    rng = random.Random(0)
    whole = {"0": list("abcdefgh"), "1": list("hag"), "2": list("bacabd")}
    rows = [row for user, items in whole.items() for row in rows_of(user, items, window)]
    rng.shuffle(rows)
    for name, start in (("train", 0), ("valid", 7), ("test", 10)):
        write(tmp_path, name, rows[start : {"train": 7, "valid": 10, "test": None}[name]])
    assert sequences(tmp_path) == whole


def test_a_row_a_user_and_blank_lists(tmp_path):
    assert sequences(write(tmp_path, "train", [("0", "1.0 2.0", "3.0"), ("1", "", "3.0")])) == {"0": ["1", "2", "3"], "1": ["3"]}


@pytest.mark.parametrize(
    "rows",
    [
        [("0", "a b", "c"), ("0", "x y", "z")],  # two sessions
        [("0", "a b", "c"), ("0", "a b", "d")],
        [("0", "a b", "c"), ("0", "c d", "e")],  # a row between lacks
        [("0", "a b", "a"), ("0", "b a", "b"), ("0", "a b", "c")],
    ],
)
def test_rows_that_are_not_one_sequence(tmp_path, rows):
    with pytest.raises(
        UserError, match=r"shop\.train\.inter, line \d: the rows of user_id '0' are not beginnings of one sequence"
    ):
        recbole.read(write(tmp_path, "train", [("9", "a", "b"), *rows]))
