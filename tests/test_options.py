"""Fields of configurations: default, meaning and limits in one place."""

import dataclasses
import math

import pytest

from prec_backdoor.errors import UserError
from prec_backdoor.options import Option, check_options, check_value, defaults, option, options, probability


@dataclasses.dataclass(frozen=True)
class Config:
    """One field for each kind of limit."""

    count: int = option(3, "model", "At least 1.", minimum=1)
    rate: float = option(0.5, "training", "More than 0.", above=0.0)
    share: float = probability(0.5, "attack", "A probability.")
    dropout: float = option(0.0, "model", "Less than 1.", minimum=0.0, below=1.0)
    free: float = option(1.0, "training", "Any number.")
    name: str = option("a", "data", "One of two.", choices=("a", "b"))
    values: tuple[float, ...] = option((0.1, 0.2), "attack", "Several.", minimum=0, maximum=1)
    names: tuple[str, ...] = option(("a",), "attack", "Several of two.", choices=("a", "b"))
    group: str | None = option(None, "attack", "May be left out.")
    hidden: int = -7

    def __post_init__(self):
        check_options(self)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"count": 1},
        {"rate": 1e-300},
        {"share": 0.0},
        {"share": 1.0},
        {"share": 1},
        {"dropout": 0.0},
        {"dropout": 0.999},
        {"free": -1e300},
        {"name": "b"},
        {"values": (0, 1, 0.5)},
        {"values": ()},
        {"names": ("b", "a")},
        {"group": "x"},
        {"hidden": -10},
    ],
)
def test_what_is_within_the_limits(given):
    assert dataclasses.replace(Config(), **given) == Config(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "--count: must be >= 1, got 0"),
        ({"count": -3}, "--count: must be >= 1, got -3"),
        ({"count": -(2**31)}, "--count: must be >= 1, got -2147483648"),
        ({"rate": 0.0}, "--rate: must be > 0, got 0"),
        ({"rate": math.nan}, "--rate: must be a finite number > 0, got nan"),
        ({"rate": math.inf}, "--rate: must be a finite number > 0, got inf"),
        ({"share": -0.1}, "--share: must be >= 0 and <= 1, got -0.1"),
        ({"share": 1.1}, "--share: must be >= 0 and <= 1, got 1.1"),
        ({"share": math.nan}, "--share: must be a finite number >= 0 and <= 1, got nan"),
        ({"dropout": 1.0}, "--dropout: must be >= 0 and < 1, got 1"),
        ({"dropout": -0.0001}, "--dropout: must be >= 0 and < 1, got -0.0001"),
        ({"free": math.nan}, "--free: must be a finite number, got nan"),
        ({"free": -math.inf}, "--free: must be a finite number, got -inf"),
        ({"name": "c"}, "--name: must be one of a, b, got 'c'"),
        ({"values": (0.5, 1.5)}, "--values: must be >= 0 and <= 1, got 1.5"),
        ({"values": (math.nan, 0.5)}, "--values: must be a finite number >= 0 and <= 1, got nan"),
        ({"names": ("a", "c")}, "--names: must be one of a, b, got 'c'"),
    ],
)
def test_what_is_not(given, message):
    with pytest.raises(UserError) as error:
        Config(**given)
    assert str(error.value) == message


def test_an_option_is_all_that_a_flag_needs():
    found = options(Config)
    assert set(found) == {field.name for field in dataclasses.fields(Config)} - {"hidden"}
    assert found["count"] == (3, Option("At least 1.", "model", minimum=1))
    assert found["name"] == ("a", Option("One of two.", "data", choices=("a", "b")))
    assert options(Config()) == found
    assert defaults(Config) == {name: default for name, (default, _) in found.items()}


def test_choices_may_be_a_registry_that_grows():
    registry = {"a": 1}
    allowed = Option("", "attack", choices=registry)
    with pytest.raises(UserError, match="--x: must be one of a, got 'b'"):
        check_value("x", "b", allowed)
    registry["b"] = 2
    check_value("x", "b", allowed)
