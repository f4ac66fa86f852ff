"""Customers of the demo shop with hidden preferences, and their views, purchases, refills and returns.

In: products, number of users, random generator. Out: `DemoUser`s and events in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.data.demo.products import DAYS, NEW_SHARE, DemoProduct
from recsys.data.demo.styles import FAMILIES, KINDS, STYLES
from recsys.types import BoolArray, DoubleArray

_SECONDS_PER_DAY = 86_400
_WEEKDAY_WEIGHTS = np.array([0.9, 0.85, 0.9, 0.95, 1.15, 1.35, 1.3])  # Monday first
_HOUR_WEIGHTS = np.array([1, 0.5, 0.3, 0.2, 0.2, 0.4, 1, 2, 3, 4, 4.5, 4.5, 5, 4.5, 4, 4, 4.5, 5, 6, 7, 8, 8, 6, 3])
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
    """One row of the event log; ordered by time, then user.

    Attributes:
        second: UTC seconds since 1970.
        user, product: numbers of the user and the product.
        event_type: view, add_to_cart, purchase or return.
        quantity: number of units.
        order: id of the order; empty for views and cart additions.
    """

    second: int
    user: int
    product: int
    event_type: str
    quantity: int
    order: str


def generate_users(count: int, g: np.random.Generator) -> list[DemoUser]:
    """Generate users; each prefers one or two styles and some of their colours.

    Args:
        count: number of users, u.
        g: random generator.
    """
    new_numbers = set(g.choice(count, max(1, round(count * NEW_SHARE)), replace=False).tolist())
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
                joined=int(g.integers(DAYS - 7, DAYS)) if number in new_numbers else int(g.integers(-30, 55)),
                taste=np.log(preference + 0.008),
                colours=frozenset(colours),
                budget=float(g.normal(0, 0.45)),
                interests=np.log(g.dirichlet(np.full(len(KINDS), 0.9)) + 0.01),
                rate=float(np.clip(g.gamma(2.2, 0.32), 0.12, 3.0)),
            )
        )
    return users


def attributes(user: DemoUser, g: np.random.Generator) -> dict[str, str]:
    """Generate the attributes of a user; they reveal little about the preferences."""
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
        g: random generator for the popularity of products, overall and per week, which is the same for all users.
    """

    def __init__(self, products: list[DemoProduct], *, start: int, g: np.random.Generator) -> None:
        self._products = products
        self._start = start
        self._style = np.array([STYLES.index(product.style) for product in products])
        self._kind = np.array([KINDS.index(product.kind) for product in products])
        self._colour = np.array([product.family.english for product in products])
        self._price_level = np.array([product.price_level for product in products])
        self._launch_day = np.array([product.launched for product in products])
        self._is_durable = np.array([product.kind.again == 0 for product in products])
        self._trend = np.array([product.kind.trend for product in products])
        self._popularity = g.normal(0, 0.55, len(products))
        self._weekly_popularity = g.normal(0, 0.5, (DAYS // 7 + 1, len(products)))
        self._n_orders = 0

    def events(self, user: DemoUser, g: np.random.Generator) -> list[DemoEvent]:
        """Generate the events of a user from the first visit to the end of the log, in order of time.

        Args:
            user: the user.
            g: random generator of this user.
        """
        base_weights = self._compute_base_weights(user)
        bought_mask = np.zeros(len(self._products), bool)
        is_shopping_day = self._sample_shopping_days(user, g)
        refills: list[tuple[int, int]] = []  # (day, product)
        events: list[DemoEvent] = []
        for day in range(max(user.joined, 0), DAYS):
            due_products = [product for refill_day, product in refills if refill_day == day]
            if not (due_products or is_shopping_day[day]):
                continue
            weights = self._compute_day_weights(base_weights, bought_mask, day)
            basket = [*due_products, *(self._sample_basket(weights, g) if is_shopping_day[day] else [])]
            events += self._generate_visit(user, day, list(dict.fromkeys(basket)), weights, g)
            for product in dict.fromkeys(basket):
                bought_mask[product] = True
                repurchase_days = self._products[product].kind.again
                if repurchase_days and g.random() < (0.85 if product in due_products else 0.6):
                    refills.append((day + max(4, round(repurchase_days * g.normal(1, 0.12))), product))
        return sorted(events)

    def _compute_base_weights(self, user: DemoUser) -> DoubleArray:
        """Compute the log weights that do not depend on the day, (n,)."""
        has_preferred_colour = np.isin(self._colour, list(user.colours))
        price_term = -((self._price_level - user.budget) ** 2) / (2 * 0.5**2)
        base_weights: DoubleArray = (
            1.15 * user.taste[self._style]
            + 1.1 * has_preferred_colour
            + price_term
            + 0.9 * user.interests[self._kind]
            + self._popularity
        )
        return base_weights

    def _compute_day_weights(self, base_weights: DoubleArray, bought_mask: BoolArray, day: int) -> DoubleArray:
        """Compute the log weights of a day, (n,): season, week, and a penalty on buying durable products again."""
        season_term = self._trend * (2 * day / DAYS - 1)
        weights = (
            base_weights
            + season_term
            + self._weekly_popularity[day // 7]
            - 4.0 * (bought_mask & self._is_durable)
            - 0.5 * bought_mask
        )
        return np.where(self._launch_day <= day, weights, -np.inf)

    def _sample_basket(self, weights: DoubleArray, rng: np.random.Generator) -> list[int]:
        """Sample one product by preference, then up to three of other kinds, preferably of its style and colour."""
        basket = [_sample_product(weights, rng)]
        for _ in range(int(min(rng.poisson(0.8), 3))):
            first = basket[0]
            match_bonus = 1.2 * (self._style == self._style[first]) + 1.0 * (self._colour == self._colour[first])
            basket.append(
                _sample_product(np.where(np.isin(self._kind, self._kind[basket]), -np.inf, weights + match_bonus), rng)
            )
        return basket

    def _sample_shopping_days(self, user: DemoUser, rng: np.random.Generator) -> BoolArray:
        weekday = (np.arange(DAYS) + self._start // _SECONDS_PER_DAY + 3) % 7  # 1970-01-01 was a Thursday
        is_shopping_day = rng.random(DAYS) < user.rate / 7 * _WEEKDAY_WEIGHTS[weekday]
        if user.joined >= DAYS - 7 and rng.random() < 0.7:  # the other new users have not bought anything yet
            is_shopping_day[user.joined] = True
        elif user.joined >= DAYS - 7:
            is_shopping_day[:] = False
        elif not is_shopping_day[max(user.joined, 0) :].any():
            is_shopping_day[int(rng.integers(max(user.joined, 0), DAYS - 7))] = True
        return is_shopping_day

    def _generate_visit(
        self, user: DemoUser, day: int, basket: list[int], weights: DoubleArray, rng: np.random.Generator
    ) -> list[DemoEvent]:
        """Generate the events of a visit: views, cart additions, purchases, and rarely returns."""
        order_time = (
            self._start
            + day * _SECONDS_PER_DAY
            + int(rng.choice(24, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())) * 3600
            + int(rng.integers(3600))
        )
        viewed = [*(product for product in basket if rng.random() < 0.6)]
        viewed += [_sample_product(weights * 0.8, rng) for _ in range(int(rng.poisson(1.3)))]
        events: list[DemoEvent] = []
        for position, product in enumerate(dict.fromkeys(viewed)):
            view_time = order_time - int(rng.integers(40, 120)) * (len(viewed) - position)
            events.append(DemoEvent(view_time, user.number, product, "view", 1, ""))
            if product in basket or rng.random() < 0.12:
                events.append(DemoEvent(view_time + 20, user.number, product, "add_to_cart", 1, ""))
        self._n_orders += 1
        order_id = f"o{self._n_orders:06d}"
        for product in basket:
            quantity = 1 if self._is_durable[product] else int(rng.choice([1, 2, 3], p=[0.7, 0.22, 0.08]))
            events.append(DemoEvent(order_time, user.number, product, "purchase", quantity, order_id))
            return_day = day + int(rng.integers(4, 12))
            if self._is_durable[product] and return_day < DAYS and rng.random() < 0.04:
                events.append(
                    DemoEvent(
                        order_time + (return_day - day) * _SECONDS_PER_DAY,
                        user.number,
                        product,
                        "return",
                        quantity,
                        order_id,
                    )
                )
        # Views precede the order: just after the first midnight they could fall before the start of the log.
        return [
            event
            for event in events
            if event.second >= self._start and event.second < self._start + DAYS * _SECONDS_PER_DAY
        ]


def _sample_product(log_weights: DoubleArray, rng: np.random.Generator) -> int:
    """Sample a product with probability proportional to exp(log_weights)."""
    weights = np.exp(log_weights - log_weights.max())
    index = np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right")
    return int(min(index, len(weights) - 1))
