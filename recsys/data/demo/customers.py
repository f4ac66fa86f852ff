"""The customers of the drawn shop: hidden tastes, and what they look at, buy, buy again and send back.

In: the goods, how many users, a generator. Out: `DemoUser`s and events in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.demo.products import DAYS, NEW_SHARE, DemoProduct
from recsys.data.demo.styles import FAMILIES, KINDS, STYLES
from recsys.types import BoolArray, DoubleArray

_DAY = 86_400
_WEEKDAYS = np.array([0.9, 0.85, 0.9, 0.95, 1.15, 1.35, 1.3])  # Monday first
_HOURS = np.array([1, 0.5, 0.3, 0.2, 0.2, 0.4, 1, 2, 3, 4, 4.5, 4.5, 5, 4.5, 4, 4, 4.5, 5, 6, 7, 8, 8, 6, 3])
_COUNTRIES = ("DE", "FR", "GB", "NL", "CN", "SG")


@dataclass(frozen=True)
class DemoUser:
    """A user with what is hidden about them.

    Attributes:
        number: 0..u-1.
        joined: day of the first visit, 0 = first day of the log.
        taste: (styles,) log of how much each style is liked.
        colours: families that are liked above others.
        budget: how dear their things are, on the scale of `DemoProduct.dear`.
        interests: (kinds,) log of how much each kind of product is wanted.
        rate: orders a week.
    """

    number: int
    joined: int
    taste: DoubleArray
    colours: frozenset[str]
    budget: float
    interests: DoubleArray
    rate: float


@dataclass(frozen=True, order=True)
class DemoEvent:
    """One row of the log; ordered by time, then user."""

    second: int
    user: int
    good: int
    kind: str
    quantity: int
    order: str


def generate_users(count: int, g: np.random.Generator) -> list[DemoUser]:
    """Make up `count` people; each likes one or two of the styles and some colours of theirs."""
    new = set(g.choice(count, max(1, round(count * NEW_SHARE)), replace=False).tolist())
    people: list[DemoUser] = []
    for number in range(count):
        liked = g.dirichlet(np.full(len(STYLES), 0.22))
        favourite = STYLES[int(liked.argmax())]
        colours = {favourite.colours[int(g.integers(2))], favourite.colours[int(g.integers(4))]}
        if g.random() < 0.25:
            colours.add(FAMILIES[int(g.integers(len(FAMILIES)))].english)
        people.append(
            DemoUser(
                number=number,
                joined=int(g.integers(DAYS - 7, DAYS)) if number in new else int(g.integers(-30, 55)),
                taste=np.log(liked + 0.008),
                colours=frozenset(colours),
                budget=float(g.normal(0, 0.45)),
                interests=np.log(g.dirichlet(np.full(len(KINDS), 0.9)) + 0.01),
                rate=float(np.clip(g.gamma(2.2, 0.32), 0.12, 3.0)),
            )
        )
    return people


def attributes(person: DemoUser, g: np.random.Generator) -> dict[str, str]:
    """State what a shop knows about a user; little of it says anything about taste."""
    stated = {
        "country": _COUNTRIES[int(g.choice(len(_COUNTRIES), p=[0.34, 0.18, 0.18, 0.1, 0.14, 0.06]))],
        "newsletter": "yes" if g.random() < 0.4 else "no",
        "segment": "premium" if person.budget > 0.3 else "saver" if person.budget < -0.3 else "regular",
    }
    return {name: value for name, value in stated.items() if g.random() < 0.85}


class EventGenerator:
    """Writes the events of people among goods.

    Args:
        goods: what can be bought.
        start: UTC seconds of the first midnight.
        g: generator of everything that is the same for all users: appeal, and what is talked about this week.
    """

    def __init__(self, goods: list[DemoProduct], *, start: int, g: np.random.Generator) -> None:
        self._goods = goods
        self._start = start
        self._style = np.array([STYLES.index(good.style) for good in goods])
        self._kind = np.array([KINDS.index(good.kind) for good in goods])
        self._colour = np.array([good.family.english for good in goods])
        self._dear = np.array([good.dear for good in goods])
        self._launched = np.array([good.launched for good in goods])
        self._lasts = np.array([good.kind.again == 0 for good in goods])
        self._trend = np.array([good.kind.trend for good in goods])
        self._appeal = g.normal(0, 0.55, len(goods))
        self._weekly = g.normal(0, 0.5, (DAYS // 7 + 1, len(goods)))
        self._orders = 0

    def events(self, person: DemoUser, g: np.random.Generator) -> list[DemoEvent]:
        """Return what a person does from the day they joined to the end of the log, in order of time."""
        liking = self._liking(person)
        bought = np.zeros(len(self._goods), bool)
        shopping = self._shopping_days(person, g)
        refills: list[tuple[int, int]] = []  # (day, good)
        done: list[DemoEvent] = []
        for day in range(max(person.joined, 0), DAYS):
            due = [good for when, good in refills if when == day]
            if not (due or shopping[day]):
                continue
            wish = self._wish(liking, bought, day)
            basket = [*due, *(self._basket(wish, g) if shopping[day] else [])]
            done += self._visit(person, day, list(dict.fromkeys(basket)), wish, g)
            for good in dict.fromkeys(basket):
                bought[good] = True
                again = self._goods[good].kind.again
                if again and g.random() < (0.85 if good in due else 0.6):
                    refills.append((day + max(4, round(again * g.normal(1, 0.12))), good))
        return sorted(done)

    def _liking(self, person: DemoUser) -> DoubleArray:
        """What does not change with the day: (n,) log weight."""
        colours = np.isin(self._colour, list(person.colours))
        price = -((self._dear - person.budget) ** 2) / (2 * 0.5**2)
        liking: DoubleArray = (
            1.15 * person.taste[self._style] + 1.1 * colours + price + 0.9 * person.interests[self._kind] + self._appeal
        )
        return liking

    def _wish(self, liking: DoubleArray, bought: BoolArray, day: int) -> DoubleArray:
        """Log weight of every product on a day: season, talk of the week; what lasts is rarely bought twice."""
        season = self._trend * (2 * day / DAYS - 1)
        wish = liking + season + self._weekly[day // 7] - 4.0 * (bought & self._lasts) - 0.5 * bought
        return np.where(self._launched <= day, wish, -np.inf)

    def _basket(self, wish: DoubleArray, g: np.random.Generator) -> list[int]:
        """One product by taste, the others to go with it: same style and colour, another kind."""
        basket = [_draw(wish, g)]
        for _ in range(int(min(g.poisson(0.8), 3))):
            first = basket[0]
            match = 1.2 * (self._style == self._style[first]) + 1.0 * (self._colour == self._colour[first])
            basket.append(_draw(np.where(np.isin(self._kind, self._kind[basket]), -np.inf, wish + match), g))
        return basket

    def _shopping_days(self, person: DemoUser, g: np.random.Generator) -> BoolArray:
        weekday = (np.arange(DAYS) + self._start // _DAY + 3) % 7  # 1970-01-01 was a Thursday
        shopping = g.random(DAYS) < person.rate / 7 * _WEEKDAYS[weekday]
        if person.joined >= DAYS - 7 and g.random() < 0.7:  # the others have signed up and bought nothing yet
            shopping[person.joined] = True
        elif person.joined >= DAYS - 7:
            shopping[:] = False
        elif not shopping[max(person.joined, 0) :].any():
            shopping[int(g.integers(max(person.joined, 0), DAYS - 7))] = True
        return shopping

    def _visit(
        self, person: DemoUser, day: int, basket: list[int], wish: DoubleArray, g: np.random.Generator
    ) -> list[DemoEvent]:
        """Look around, put into the basket, pay; rarely send back."""
        second = self._start + day * _DAY + int(g.choice(24, p=_HOURS / _HOURS.sum())) * 3600 + int(g.integers(3600))
        looked = [*(good for good in basket if g.random() < 0.6)]
        looked += [_draw(wish * 0.8, g) for _ in range(int(g.poisson(1.3)))]
        events: list[DemoEvent] = []
        for place, good in enumerate(dict.fromkeys(looked)):
            before = second - int(g.integers(40, 120)) * (len(looked) - place)
            events.append(DemoEvent(before, person.number, good, "view", 1, ""))
            if good in basket or g.random() < 0.12:
                events.append(DemoEvent(before + 20, person.number, good, "add_to_cart", 1, ""))
        self._orders += 1
        order = f"o{self._orders:06d}"
        for good in basket:
            quantity = 1 if self._lasts[good] else int(g.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))
            events.append(DemoEvent(second, person.number, good, "purchase", quantity, order))
            back = day + int(g.integers(4, 12))
            if self._lasts[good] and back < DAYS and g.random() < 0.04:
                events.append(DemoEvent(second + (back - day) * _DAY, person.number, good, "return", quantity, order))
        # A visit shortly after midnight of the first day must not begin before the log does.
        return [event for event in events if event.second >= self._start and event.second < self._start + DAYS * _DAY]


def _draw(wish: DoubleArray, g: np.random.Generator) -> int:
    """Draw a product with probability in proportion to exp(wish)."""
    weight = np.exp(wish - wish.max())
    at = np.searchsorted(np.cumsum(weight), g.random() * weight.sum(), side="right")
    return int(min(at, len(weight) - 1))
