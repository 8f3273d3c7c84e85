"""How numbers are written in a report."""
from __future__ import annotations

from typing import List, Optional, Sequence

from .summary import Spread

NOTHING = '–'


def plus_minus(value: Optional[Spread], form: str = '.2f', scale: float = 1) -> str:
    """'8.31 ± 0.24'; without ± for one run."""
    if value is None:
        return NOTHING
    std = '' if value.std is None else f' ± {format(scale * value.std, form.replace("+", ""))}'
    return format(scale * value.mean, form) + std


def big(number: Optional[float]) -> str:
    """'272,250', '2.55 M', '4.09 G'."""
    if number is None:
        return NOTHING
    if number < 1e6:
        return f'{number:,.0f}'
    return f'{number / 1e9:.2f} G' if number >= 1e9 else f'{number / 1e6:.2f} M'


def ranges(numbers: Sequence[int]) -> str:
    """'0–4, 7' of sorted numbers."""
    parts: List[List[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ', '.join(f'{part[0]}–{part[-1]}' if len(part) > 1 else str(part[0]) for part in parts)


def duration(seconds: Optional[float]) -> str:
    """'41 s', '2 min 05 s', '3 h 07 min'."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
