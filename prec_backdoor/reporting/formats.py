"""Numbers as text."""

import math

from prec_backdoor.evaluation.statistics import Estimate

MISSING = "–"


def number(value: float) -> str:
    """Returns a ratio with three digits or so."""
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def at_least(value: float) -> str:
    """Returns a ratio as `number` does, rounded down."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{math.floor(value * 10**digits + 1e-9) / 10**digits:,.{digits}f}"


def signed(estimate: Estimate) -> tuple[str, str, str]:
    """Returns a difference and the ends of its interval with three decimals and a sign."""
    return tuple(f"{value + 0.0:+.3f}".replace("-0.000", "+0.000") for value in estimate)


def percent(share: Estimate, of: str = "") -> str:
    """Returns a share and its interval in per cent, as "25.0 % lost (20.1 % to 30.2 %)" for `of` "lost"."""
    mean, low, high = (f"{100 * value + 0.0:.1f} %".replace("-0.0 %", "0.0 %").replace("inf", "∞") for value in share)
    return f"{mean}{of and ' '}{of} ({low} to {high})"


def counted(number: int, noun: str) -> str:
    """Returns "1 stage", "2 stages"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
