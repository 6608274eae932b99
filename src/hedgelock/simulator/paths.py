"""Courses: a value over script time, scripted by corners or drawn from a seed.

A course answers for any second in any order with the same number. Values are floats; the market
quantises them through text, and from there on prices are exact.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
HOURS_KEPT = 4  # drawn hours in memory; earlier ones are drawn again when asked for

Path = tuple[tuple[float, float], ...]
"""Corner points (script second, value), joined by straight lines, flat outside."""


class Course(Protocol):
    """A value over script time."""

    def at(self, at_s: float) -> float:
        """Value at a script second ≥ 0."""


class Corners:
    """A piecewise linear course, flat before its first and after its last corner."""

    def __init__(self, path: Iterable[tuple[float, float]]) -> None:
        self._times, self._values = array("d"), array("d")
        for at_s, value in path:
            self._times.append(at_s)
            self._values.append(value)
        if not self._times:
            raise ValueError("a path needs at least one corner")

    def at(self, at_s: float) -> float:
        """Value on the line between the corners around `at_s`."""
        times, values = self._times, self._values
        after = bisect_right(times, at_s)
        if after == 0:
            return values[0]
        before = after - 1
        if after == len(times):
            return values[before]
        share = (at_s - times[before]) / (times[after] - times[before])
        return values[before] + (values[after] - values[before]) * share


def course(source: Path | Course) -> Course:
    """A corner path as a course; anything else is one already."""
    return Corners(source) if isinstance(source, tuple) else source


@dataclass(frozen=True, slots=True)
class Regime:
    """A mood of the market, which sets volatility, jumps and the perpetual's premium together."""

    volatility: float  # st. dev. of log returns, per √year (.6 = 60 %)
    drift: float = 0.0  # of the log price, per year
    jumps_per_day: float = 0.0
    jump_size: float = 0.0  # st. dev. of one jump's log return
    premium: float = 0.0  # mean of the perpetual's premium over index, a fraction
    stay_h: float = 48.0  # mean hours before another regime follows


@dataclass(frozen=True, slots=True)
class Diffusion:
    """A jump diffusion with regimes; they change on the hour, to any other with equal chance."""

    start: float  # price at script second 0
    regimes: tuple[Regime, ...]
    premium_noise: float = 0.0001  # st. dev. of the premium around its regime's mean, a fraction
    premium_half_life_h: float = 2.0


class Drawn:
    """The price and premium of a diffusion, drawn second by second from a seed.

    Each hour has dice of its own, and starts where the hour before it ended, so what was asked
    before never matters.
    """

    def __init__(self, model: Diffusion, seed: str) -> None:
        self._model = model
        self._seed = seed
        # per hour: (log price, premium − its mean, regime) at its first second
        self._starts: list[tuple[float, float, int]] = [(math.log(model.start), 0.0, 0)]
        self._hours: dict[int, tuple[array[float], array[float]]] = {}
        self.price = DrawnCourse(self, 0)
        self.premium = DrawnCourse(self, 1)

    def value(self, at_s: float, series: int) -> float:
        """Price (0) or premium (1), on the line between two drawn seconds."""
        second = max(0.0, at_s)
        hour, inside = divmod(second, HOUR_S)
        values = self._hour(int(hour))[series]
        whole = int(inside)
        left = values[whole]
        return left + (values[whole + 1] - left) * (inside - whole)

    def _hour(self, number: int) -> tuple[array[float], array[float]]:
        found = self._hours.get(number)
        if found is None:
            while len(self._starts) <= number:
                self._draw(len(self._starts) - 1)
            found = self._draw(number)
            self._hours[number] = found
            for old in list(self._hours)[:-HOURS_KEPT]:
                del self._hours[old]
        return found

    def _draw(self, number: int) -> tuple[array[float], array[float]]:
        """An hour, 3,601 points of each series: its last second is the next hour's first."""
        dice = random.Random(f"{self._seed}:{number}")
        log_price, off, mood = self._starts[number]
        model = self._model
        regime = model.regimes[mood]
        step = regime.volatility / math.sqrt(YEAR_S)
        drift = regime.drift / YEAR_S - step * step / 2
        jump_chance = regime.jumps_per_day / (24 * HOUR_S)
        keep = 0.5 ** (1 / (model.premium_half_life_h * HOUR_S))
        kick = model.premium_noise * math.sqrt(1 - keep * keep)
        gauss, chance = dice.gauss, dice.random
        prices, premiums = array("d", [math.exp(log_price)]), array("d", [regime.premium + off])
        for _ in range(HOUR_S):
            log_price += drift + step * gauss(0.0, 1.0)
            if chance() < jump_chance:
                log_price += regime.jump_size * gauss(0.0, 1.0)
            off = off * keep + kick * gauss(0.0, 1.0)
            prices.append(math.exp(log_price))
            premiums.append(regime.premium + off)
        if len(self._starts) == number + 1:
            others = [n for n in range(len(model.regimes)) if n != mood]
            follows = mood
            if others and chance() < 1 / regime.stay_h:
                follows = dice.choice(others)
            # the premium does not jump with the regime: it walks to the new mean
            off += regime.premium - model.regimes[follows].premium
            self._starts.append((log_price, off, follows))
        return prices, premiums


class DrawnCourse:
    """One series of a drawn market."""

    def __init__(self, drawn: Drawn, series: int) -> None:
        self._drawn = drawn
        self._series = series

    def at(self, at_s: float) -> float:
        """Value at a script second."""
        return self._drawn.value(at_s, self._series)


class Following:
    """A coin that follows a leader: start × (leader's move)^beta × its own drawn move."""

    def __init__(self, leader: Course, own: Course, beta: float) -> None:
        self._leader = leader
        self._own = own
        self._beta = beta
        self._first = leader.at(0.0)

    def at(self, at_s: float) -> float:
        """Value at a script second."""
        return self._own.at(at_s) * float((self._leader.at(at_s) / self._first) ** self._beta)
