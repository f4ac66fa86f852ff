"""Recommendations for a shop, from its tables back to its tables.

The map of the house, in the order data flows: `data` reads and judges, `encoder` turns products and users into
vectors, `vectors` keeps, groups and searches them, `recommend` makes lists with reasons, `store` writes and publishes
them, `evaluate` measures lists. `db` talks to databases, `execution` watches and stops work, `errors`, `config`
and `log` serve everybody. `pipeline` joins the rooms into verbs; `cli`, `jobs` and `shop` start it.

    import recsys
    shop = recsys.open("shop")                       # a project folder, or a database URL
    shop.similar(text="red running shoes", where="price < 80")
    shop.recommend(users=["u1", "u2"], k=10)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys._version import __version__ as __version__

if TYPE_CHECKING:
    from recsys.errors import RecsysError as RecsysError
    from recsys.shop import Shop as Shop
    from recsys.shop import open_shop as open

__all__ = ["RecsysError", "Shop", "__version__", "open"]

_WHERE = {
    "RecsysError": ("recsys.errors", "RecsysError"),
    "Shop": ("recsys.shop", "Shop"),
    "open": ("recsys.shop", "open_shop"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import recsys` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
