"""A shop drawn by ourselves, so that everything can be tried without anybody's data.

In: sizes and a seed. Out: `draw(folder)` writes files fit for `recsys ingest`.
"""

from recsys.data.demo.generate import generate_shop

__all__ = ["generate_shop"]
