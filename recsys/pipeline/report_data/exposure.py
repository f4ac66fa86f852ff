"""Measures which products the published recommendations show, compared with the catalogue and with sales.

In: list positions per product, the catalogue, the events. Out: `CatalogueExposure`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.data.catalogue import Catalogue
from recsys.data.dataset import Dataset
from recsys.data.schema import PURCHASE_CODE
from recsys.evaluate.beyond_accuracy import gini_index
from recsys.pipeline.report_data.product_table import ProductTable
from recsys.report.content import CatalogueExposure, ExposureShare
from recsys.types import BoolArray, IntArray

_TENTHS, _PRICE_BANDS, _MAX_BRANDS, _MAX_TOP_PRODUCTS = 10, 5, 12, 12
_MAX_CURVE_POINTS = 100
_NO_BRAND = "no brand"


def measure_exposure(dataset: Dataset, places: pl.DataFrame, product_table: ProductTable) -> CatalogueExposure:
    """Measure the exposure of products in the recommendations of a run.

    Args:
        dataset: catalogue and events.
        places: product_id, places; how often each product is recommended.
        product_table: table to which the shown products are added.
    """
    catalogue, events = dataset.catalogue, dataset.interactions
    n = len(catalogue)
    shown = np.zeros(n, np.int64)
    rows = catalogue.ids.rows(places["product_id"].to_list())
    shown[rows[rows >= 0]] = places["places"].to_numpy()[rows >= 0]
    sold = np.bincount(events.item[events.event_type == PURCHASE_CODE], minlength=n).astype(np.int64)
    counts = catalogue.sellable | (shown > 0)
    available = counts.astype(np.int64)
    order = np.lexsort((np.arange(n), -sold))
    order = order[counts[order]]
    most = np.lexsort((np.arange(n), -shown))[:_MAX_TOP_PRODUCTS]
    return CatalogueExposure(
        listed=int((shown > 0).sum()),
        sellable=int(counts.sum()),
        places=int(shown.sum()),
        gini=gini_index(shown[counts]) if shown[counts].any() else None,
        gini_sales=gini_index(sold[counts]) if sold[counts].any() else None,
        tenths=_tenths(order, available, sold, shown),
        lorenz=_lorenz(shown[counts], sold[counts]),
        brands=_brands(catalogue, available, sold * available, shown),
        prices=_prices(catalogue, available, sold * available, shown),
        most=tuple((product_table.add(row), int(shown[row])) for row in most.tolist() if shown[row]),
    )


def _lorenz(shown: IntArray, sold: IntArray) -> tuple[tuple[float, float, float], ...]:
    """Return Lorenz curves of recommendations and of sales: share of products, share of each."""
    n = len(shown)
    if not n:
        return ()
    cuts = np.unique(np.linspace(0, n, min(n, _MAX_CURVE_POINTS) + 1).round().astype(np.int64))
    curves = []
    for counts in (shown, sold):
        cumulative = np.concatenate([[0], np.cumsum(np.sort(counts))])
        curves.append(cumulative[cuts] / max(1, cumulative[-1]))
    return tuple(
        (float(cut) / n, float(listed), float(bought)) for cut, listed, bought in zip(cuts, *curves, strict=True)
    )


def _tenths(order: IntArray, available: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    parts = [part for part in np.array_split(order, _TENTHS) if len(part)]
    if len(parts) < _TENTHS:
        return ()
    names = [f"{10 * i}–{10 * i + 10} %" for i in range(_TENTHS)]
    names[0], names[-1] = "best-selling 10 %", "least-selling 10 %"
    masks = [np.isin(np.arange(len(available)), part) for part in parts]
    return _exposure_shares(names, masks, available, sold * available, shown)


def _brands(catalogue: Catalogue, available: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    if schema.BRAND not in catalogue.frame.columns:
        return ()
    brand = catalogue.frame[schema.BRAND].fill_null("")
    names, codes = np.unique(brand.to_numpy().astype(np.object_), return_inverse=True)
    by_brand = np.bincount(codes, shown, minlength=len(names))
    order = [code for code in np.lexsort((np.arange(len(names)), -by_brand)).tolist() if names[code]]
    if not order:
        return ()
    top, rest = order[:_MAX_BRANDS], order[_MAX_BRANDS:]
    shown_names = [str(names[code]) for code in top]
    masks = [codes == code for code in top]
    if rest:
        shown_names.append(f"{len(rest):,} other brands")
        masks.append(np.isin(codes, rest))
    if (brand == "").any():
        shown_names.append(_NO_BRAND)
        masks.append(np.asarray((brand == "").to_numpy()))
    return _exposure_shares(shown_names, masks, available, sold, shown)


def _prices(catalogue: Catalogue, available: IntArray, sold: IntArray, shown: IntArray) -> tuple[ExposureShare, ...]:
    """Return exposure by fifths of the priced products, ranked within their currency, and without a price."""
    frame = catalogue.frame
    if schema.PRICE not in frame.columns or frame[schema.PRICE].null_count() == frame.height:
        return ()
    currency = pl.col(schema.CURRENCY).fill_null("") if schema.CURRENCY in frame.columns else pl.lit("")
    prices_frame = frame.select(
        pl.col(schema.PRICE).cast(pl.Float64).fill_nan(None).alias("price"), currency.alias("money")
    )
    relative_rank = (pl.col("price").rank("min").cast(pl.Float64) - 1) / pl.col("price").count()
    band = prices_frame.select(
        (relative_rank.over("money") * _PRICE_BANDS).floor().cast(pl.Int64).fill_null(-1).alias("band")
    )["band"]
    bands = band.to_numpy()
    single_currency = prices_frame.filter(pl.col("price").is_not_null())["money"].n_unique() == 1
    names, masks = [], []
    for i in range(_PRICE_BANDS):
        inside = prices_frame.filter(pl.Series(bands == i))
        if inside.height:
            prices: list[float] = inside["price"].to_list()
            ends = f": {min(prices):,.2f}–{max(prices):,.2f} {inside['money'][0]}".rstrip()
            names.append(("cheapest", "cheap", "middle", "dear", "dearest")[i] + (ends if single_currency else ""))
            masks.append(bands == i)
    if (bands < 0).any():
        names.append("no price")
        masks.append(bands < 0)
    return _exposure_shares(names, masks, available, sold, shown)


def _exposure_shares(
    names: Sequence[str], masks: Sequence[BoolArray], available: IntArray, sold: IntArray, shown: IntArray
) -> tuple[ExposureShare, ...]:
    totals = [max(1, int(counts.sum())) for counts in (available, sold, shown)]
    return tuple(
        ExposureShare(
            name,
            *(
                float(counts[mask].sum()) / total
                for counts, total in zip((available, sold, shown), totals, strict=True)
            ),
        )
        for name, mask in zip(names, masks, strict=True)
    )
