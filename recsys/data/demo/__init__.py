"""Generate a synthetic demo shop, to try every command without the data of a real shop.

In: sizes, seed. Out: `generate_shop(folder)` writes input files for `recsys ingest`.
"""

from recsys.data.demo.generate import generate_shop

__all__ = ["generate_shop"]
