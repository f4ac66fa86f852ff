"""Recommendations for a shop, read from its tables and written back to its tables.

The packages, in the order data flows: `data` reads and validates, `encoder` turns products and users into vectors,
`vectors` stores, clusters and searches them, `recommend` retrieves, ranks and explains recommendations, `store` writes
and publishes them, `evaluate` measures rankings. `db` connects to databases, `execution` runs shards of work,
`artifacts` writes checked files; every package uses `errors`, `config`, `types` and `log`. `pipeline` joins the
packages into commands; `cli`, `jobs` and `shop` start it.

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
    from recsys.shop import init_shop as init
    from recsys.shop import open_shop as open

__all__ = ["RecsysError", "Shop", "__version__", "init", "open"]

_WHERE = {
    "RecsysError": ("recsys.errors", "RecsysError"),
    "Shop": ("recsys.shop", "Shop"),
    "init": ("recsys.shop", "init_shop"),
    "open": ("recsys.shop", "open_shop"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import recsys` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)
