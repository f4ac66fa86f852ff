"""Customers of the demo shop with hidden preferences, and their views, purchases, refills and returns.

In: the products, the number of users, a random generator. Out: `DemoUser`s and events in order of time.
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
    """A user with their hidden preferences.

    Attributes:
        number: 0..u-1.
        joined: day of the first visit, 0 = first day of the log.
        taste: (styles,) log preference for each style.
        colours: preferred colour families.
        budget: preferred price level, on the scale of `DemoProduct.price_level`.
        interests: (kinds,) log preference for each kind of product.
        rate: orders per week.
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
    product: int
    event_type: str
    quantity: int
    order: str


def generate_users(count: int, g: np.random.Generator) -> list[DemoUser]:
    """Generate users; each prefers one or two styles and some of their colours."""
    new = set(g.choice(count, max(1, round(count * NEW_SHARE)), replace=False).tolist())
    users: list[DemoUser] = []
    for number in range(count):
        preference = g.dirichlet(np.full(len(STYLES), 0.22))
        favourite = STYLES[int(preference.argmax())]
        colours = {favourite.colours[int(g.integers(2))], favourite.colours[int(g.integers(4))]}
        if g.random() < 0.25:
            colours.add(FAMILIES[int(g.integers(len(FAMILIES)))].english)
        users.append(
            DemoUser(
                number=number,
                joined=int(g.integers(DAYS - 7, DAYS)) if number in new else int(g.integers(-30, 55)),
                taste=np.log(preference + 0.008),
                colours=frozenset(colours),
                budget=float(g.normal(0, 0.45)),
                interests=np.log(g.dirichlet(np.full(len(KINDS), 0.9)) + 0.01),
                rate=float(np.clip(g.gamma(2.2, 0.32), 0.12, 3.0)),
            )
        )
    return users


def attributes(user: DemoUser, g: np.random.Generator) -> dict[str, str]:
    """Return the attributes of a user, which say little about the preferences."""
    values = {
        "country": _COUNTRIES[int(g.choice(len(_COUNTRIES), p=[0.34, 0.18, 0.18, 0.1, 0.14, 0.06]))],
        "newsletter": "yes" if g.random() < 0.4 else "no",
        "segment": "premium" if user.budget > 0.3 else "saver" if user.budget < -0.3 else "regular",
    }
    return {name: value for name, value in values.items() if g.random() < 0.85}


class EventGenerator:
    """Generates the events of users.

    Args:
        products: products of the shop.
        start: UTC seconds of the first midnight.
        g: random generator of the popularity of products, overall and for each week, the same for all users.
    """

    def __init__(self, products: list[DemoProduct], *, start: int, g: np.random.Generator) -> None:
        self._products = products
        self._start = start
        self._style = np.array([STYLES.index(product.style) for product in products])
        self._kind = np.array([KINDS.index(product.kind) for product in products])
        self._colour = np.array([product.family.english for product in products])
        self._dear = np.array([product.price_level for product in products])
        self._launched = np.array([product.launched for product in products])
        self._is_durable = np.array([product.kind.again == 0 for product in products])
        self._trend = np.array([product.kind.trend for product in products])
        self._popularity = g.normal(0, 0.55, len(products))
        self._weekly_popularity = g.normal(0, 0.5, (DAYS // 7 + 1, len(products)))
        self._orders = 0

    def events(self, user: DemoUser, g: np.random.Generator) -> list[DemoEvent]:
        """Return the events of a user from the day they joined to the end of the log, in order of time."""
        base = self._base_weights(user)
        bought = np.zeros(len(self._products), bool)
        shopping = self._shopping_days(user, g)
        refills: list[tuple[int, int]] = []  # (day, product)
        events: list[DemoEvent] = []
        for day in range(max(user.joined, 0), DAYS):
            due = [product for refill_day, product in refills if refill_day == day]
            if not (due or shopping[day]):
                continue
            weights = self._day_weights(base, bought, day)
            basket = [*due, *(self._draw_basket(weights, g) if shopping[day] else [])]
            events += self._visit(user, day, list(dict.fromkeys(basket)), weights, g)
            for product in dict.fromkeys(basket):
                bought[product] = True
                again = self._products[product].kind.again
                if again and g.random() < (0.85 if product in due else 0.6):
                    refills.append((day + max(4, round(again * g.normal(1, 0.12))), product))
        return sorted(events)

    def _base_weights(self, user: DemoUser) -> DoubleArray:
        """Return the log weights that do not change with the day: (n,)."""
        colours = np.isin(self._colour, list(user.colours))
        price = -((self._dear - user.budget) ** 2) / (2 * 0.5**2)
        base: DoubleArray = (
            1.15 * user.taste[self._style] + 1.1 * colours + price + 0.9 * user.interests[self._kind] + self._popularity
        )
        return base

    def _day_weights(self, base: DoubleArray, bought: BoolArray, day: int) -> DoubleArray:
        """Return the log weights of a day, (n,): with season and week; durable products are rarely bought twice."""
        season = self._trend * (2 * day / DAYS - 1)
        weights = base + season + self._weekly_popularity[day // 7] - 4.0 * (bought & self._is_durable) - 0.5 * bought
        return np.where(self._launched <= day, weights, -np.inf)

    def _draw_basket(self, weights: DoubleArray, g: np.random.Generator) -> list[int]:
        """Draw one product by preference, and others of the same style and colour but of other kinds."""
        basket = [_draw(weights, g)]
        for _ in range(int(min(g.poisson(0.8), 3))):
            first = basket[0]
            match = 1.2 * (self._style == self._style[first]) + 1.0 * (self._colour == self._colour[first])
            basket.append(_draw(np.where(np.isin(self._kind, self._kind[basket]), -np.inf, weights + match), g))
        return basket

    def _shopping_days(self, user: DemoUser, g: np.random.Generator) -> BoolArray:
        weekday = (np.arange(DAYS) + self._start // _DAY + 3) % 7  # 1970-01-01 was a Thursday
        shopping = g.random(DAYS) < user.rate / 7 * _WEEKDAYS[weekday]
        if user.joined >= DAYS - 7 and g.random() < 0.7:  # the others have not bought anything yet
            shopping[user.joined] = True
        elif user.joined >= DAYS - 7:
            shopping[:] = False
        elif not shopping[max(user.joined, 0) :].any():
            shopping[int(g.integers(max(user.joined, 0), DAYS - 7))] = True
        return shopping

    def _visit(
        self, user: DemoUser, day: int, basket: list[int], weights: DoubleArray, g: np.random.Generator
    ) -> list[DemoEvent]:
        """Return the events of a visit: views, basket, purchases, and rarely returns."""
        second = self._start + day * _DAY + int(g.choice(24, p=_HOURS / _HOURS.sum())) * 3600 + int(g.integers(3600))
        viewed = [*(product for product in basket if g.random() < 0.6)]
        viewed += [_draw(weights * 0.8, g) for _ in range(int(g.poisson(1.3)))]
        events: list[DemoEvent] = []
        for position, product in enumerate(dict.fromkeys(viewed)):
            before = second - int(g.integers(40, 120)) * (len(viewed) - position)
            events.append(DemoEvent(before, user.number, product, "view", 1, ""))
            if product in basket or g.random() < 0.12:
                events.append(DemoEvent(before + 20, user.number, product, "add_to_cart", 1, ""))
        self._orders += 1
        order = f"o{self._orders:06d}"
        for product in basket:
            quantity = 1 if self._is_durable[product] else int(g.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))
            events.append(DemoEvent(second, user.number, product, "purchase", quantity, order))
            return_day = day + int(g.integers(4, 12))
            if self._is_durable[product] and return_day < DAYS and g.random() < 0.04:
                events.append(
                    DemoEvent(second + (return_day - day) * _DAY, user.number, product, "return", quantity, order)
                )
        # A visit shortly after the first midnight must not start before the log.
        return [event for event in events if event.second >= self._start and event.second < self._start + DAYS * _DAY]


def _draw(log_weights: DoubleArray, g: np.random.Generator) -> int:
    """Draw a product with probability proportional to exp(log_weights)."""
    weight = np.exp(log_weights - log_weights.max())
    index = np.searchsorted(np.cumsum(weight), g.random() * weight.sum(), side="right")
    return int(min(index, len(weight) - 1))
