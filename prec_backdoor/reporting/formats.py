"""Numbers as text."""

import math

from prec_backdoor.reporting.samples import Estimate


def number(value: float) -> str:
    """Returns a ratio with three digits or so."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def at_least(value: float) -> str:
    """Returns a ratio as `number` does, rounded down."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{math.floor(value * 10**digits + 1e-9) / 10**digits:,.{digits}f}"


def percent(share: Estimate, of: str = "") -> str:
    """Returns a share and its interval in per cent, as "25.0 % lost (20.1 % to 30.2 %)" for `of` "lost"."""
    mean, low, high = (f"{100 * value + 0.0:.1f} %".replace("-0.0 %", "0.0 %") for value in share)
    return f"{mean}{of and ' '}{of} ({low} to {high})"


def counted(number: int, noun: str) -> str:
    """Returns "1 stage", "2 stages"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
