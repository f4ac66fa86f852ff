"""A shop drawn by the package, so that every command can be tried without data of a real shop.

In: sizes and a seed. Out: `draw(folder)` writes files fit for `recsys ingest`.
"""

from recsys.data.demo.generate import generate_shop

__all__ = ["generate_shop"]
