"""Who is shown: places in the published lists beside what the catalogue holds and what sells.

In: places of each product, the catalogue, the events. Out: `CatalogueExposure`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.dataset import Dataset
from recsys.data.schema import PURCHASE_CODE
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.report.content import CatalogueExposure, ExposureShare
from recsys.types import BoolArray, IntArray

_TENTHS, _BANDS, _BRANDS, _MOST = 10, 5, 12, 12
_POINTS = 100
_NONE = "no brand"


def measure_exposure(dataset: Dataset, places: pl.DataFrame, shelf: ProductTable) -> CatalogueExposure:
    """Measure the lists of a run.

    Args:
        dataset: catalogue and events.
        places: product_id, places; how often each product is listed.
        shelf: takes the products that are shown.
    """
    catalogue, events = dataset.catalogue, dataset.interactions
    n = len(catalogue)
    shown = np.zeros(n, np.int64)
    rows = catalogue.ids.rows(places["product_id"].to_list())
    shown[rows[rows >= 0]] = places["places"].to_numpy()[rows >= 0]
    sold = np.bincount(events.item[events.event_type == PURCHASE_CODE], minlength=n).astype(np.int64)
    counts = catalogue.sellable | (shown > 0)
    there = counts.astype(np.int64)
    order = np.lexsort((np.arange(n), -sold))
    order = order[counts[order]]
    most = np.lexsort((np.arange(n), -shown))[:_MOST]
    return CatalogueExposure(
        listed=int((shown > 0).sum()),
        sellable=int(counts.sum()),
        places=int(shown.sum()),
        gini=_gini(shown[counts]),
        gini_sales=_gini(sold[counts]),
        tenths=_tenths(order, there, sold, shown),
        lorenz=_lorenz(shown[counts], sold[counts]),
        brands=_brands(catalogue, there, sold * there, shown),
        prices=_prices(catalogue, there, sold * there, shown),
        most=tuple((shelf.add(row), int(shown[row])) for row in most.tolist() if shown[row]),
    )


def _gini(counts: IntArray) -> float | None:
    """Gini index of counts, 0 = all alike; None when there are none."""
    if not counts.sum():
        return None
    ordered = np.sort(counts).astype(np.float64)
    n = len(ordered)
    return float(2 * (np.arange(1, n + 1) * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def _lorenz(shown: IntArray, sold: IntArray) -> tuple[tuple[float, float, float], ...]:
    """Share of the least shown products against their share of the places, and the same of sales."""
    n = len(shown)
    if not n:
        return ()
    cuts = np.unique(np.linspace(0, n, min(n, _POINTS) + 1).round().astype(np.int64))
    curves = []
    for counts in (shown, sold):
        whole = np.concatenate([[0], np.cumsum(np.sort(counts))])
        curves.append(whole[cuts] / max(1, whole[-1]))
    return tuple((float(cut) / n, float(one), float(other)) for cut, one, other in zip(cuts, *curves, strict=True))


def _tenths(order: IntArray, there: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    parts = [part for part in np.array_split(order, _TENTHS) if len(part)]
    if len(parts) < _TENTHS:
        return ()
    names = [f"{10 * at}–{10 * at + 10} %" for at in range(_TENTHS)]
    names[0], names[-1] = "best-selling 10 %", "least-selling 10 %"
    masks = [np.isin(np.arange(len(there)), part) for part in parts]
    return _shared(names, masks, there, sold * there, shown)


def _brands(catalogue: Catalogue, there: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    if schema.BRAND not in catalogue.frame.columns:
        return ()
    brand = catalogue.frame[schema.BRAND].fill_null("")
    names, codes = np.unique(brand.to_numpy().astype(np.object_), return_inverse=True)
    by_brand = np.bincount(codes, shown, minlength=len(names))
    order = [at for at in np.lexsort((np.arange(len(names)), -by_brand)).tolist() if names[at]]
    if not order:
        return ()
    kept, rest = order[:_BRANDS], order[_BRANDS:]
    shown_names = [str(names[at]) for at in kept]
    masks = [codes == at for at in kept]
    if rest:
        shown_names.append(f"{len(rest):,} other brands")
        masks.append(np.isin(codes, rest))
    if (brand == "").any():
        shown_names.append(_NONE)
        masks.append(np.asarray((brand == "").to_numpy()))
    return _shared(shown_names, masks, there, sold, shown)


def _prices(catalogue: Catalogue, there: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    """Fifths of the priced products by rank within their currency, and those without a price."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns or frame[schema.PRICE].null_count() == frame.height:
        return ()
    currency = pl.col(schema.CURRENCY).fill_null("") if schema.CURRENCY in frame.columns else pl.lit("")
    held = frame.select(pl.col(schema.PRICE).cast(pl.Float64).fill_nan(None).alias("price"), currency.alias("money"))
    place = (pl.col("price").rank("min").cast(pl.Float64) - 1) / pl.col("price").count()
    band = held.select((place.over("money") * _BANDS).floor().cast(pl.Int64).fill_null(-1).alias("band"))["band"]
    bands = band.to_numpy()
    one = held.filter(pl.col("price").is_not_null())["money"].n_unique() == 1
    names, masks = [], []
    for at in range(_BANDS):
        inside = held.filter(pl.Series(bands == at))
        if inside.height:
            prices: list[float] = inside["price"].to_list()
            ends = f": {min(prices):,.2f}–{max(prices):,.2f} {inside['money'][0]}".rstrip()
            names.append(("cheapest", "cheap", "middle", "dear", "dearest")[at] + (ends if one else ""))
            masks.append(bands == at)
    if (bands < 0).any():
        names.append("no price")
        masks.append(bands < 0)
    return _shared(names, masks, there, sold, shown)


def _shared(
    names: Sequence[str], masks: Sequence[BoolArray], there: IntArray, sold: IntArray, shown: IntArray
) -> tuple[ExposureShare, ...]:
    wholes = [max(1, int(counts.sum())) for counts in (there, sold, shown)]
    return tuple(
        ExposureShare(
            name,
            *(float(counts[mask].sum()) / whole for counts, whole in zip((there, sold, shown), wholes, strict=True)),
        )
        for name, mask in zip(names, masks, strict=True)
    )
