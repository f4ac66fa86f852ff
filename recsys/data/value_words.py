"""Words that shops and tools write instead of values: missing values, availability, event types, placeholders.

In: nothing. Out: tables of words in lower case.
"""

from __future__ import annotations

from typing import Final

NULL_WORDS: Final = (
    "null", "(null)", "<null>", "nan", "-nan", "none", "<none>", "\\n", "<na>", "n/a", "#n/a", "#n/a n/a", "#na",
    "undefined", "nil", "nat", "<nat>", "#null!", "#value!", "#ref!",
)  # fmt: skip
"""Missing values as pandas, Spark, MySQL, Excel, JavaScript and R write them, in any case; `NA` only in capitals."""

EMPTY_JSON: Final = ("null", "[]", "{}", '""')
"""Attributes without content, as PHP and JSON write them."""

PLACEHOLDER_USERS: Final = ("-1", "0", "guest", "anonymous", "unknown", "anon", "visitor", "-", "?")
"""User ids that usually stand for many people."""

AVAILABLE: Final = (
    "true", "t", "yes", "y", "on", "enabled", "enable", "active", "publish", "published", "live", "visible", "ja",
    "oui", "si", "sí", "sim", "tak", "evet", "да", "有货", "有貨", "是", "在庫あり", "in stock", "instock", "available",
    "available for order", "available for preorder", "preorder", "pre order", "presale", "pre sale", "backorder",
    "back order", "on backorder", "onbackorder", "backordered", "limited availability", "limitedavailability",
    "online only", "onlineonly", "in store only", "instoreonly", "made to order", "madetoorder", "low stock",
    "auf lager", "lieferbar", "en stock", "disponible", "disponibile", "op voorraad", "reserved",
)  # fmt: skip
UNAVAILABLE: Final = (
    "false", "f", "no", "n", "off", "disabled", "disable", "inactive", "draft", "archived", "archive", "deleted",
    "hidden", "private", "pending", "trash", "unpublished", "nein", "non", "não", "nie", "hayır", "нет", "无货", "缺货",
    "無貨", "否", "在庫なし", "out of stock", "outofstock", "unavailable", "not available", "sold out", "soldout",
    "discontinued", "ausverkauft", "nicht lieferbar", "agotado", "épuisé", "esaurito", "uitverkocht",
)  # fmt: skip
"""Availability in the words of schema.org, Google Merchant, Shopify, WooCommerce and Magento, and of some languages.
Products that can be pre-ordered or back-ordered can be sold, so they count as available."""

_PURCHASE: Final = (
    "purchase", "purchased", "purchases", "buy", "bought", "order", "ordered", "orders", "ordercompleted",
    "completedorder", "orderplaced", "ordercreated", "orderpaid", "paid", "transaction", "sale", "sold",
    "checkoutcompleted", "purchaseitem", "productpurchased", "conversion", "ecommercepurchase", "placeorder",
)  # fmt: skip
_ADD_TO_CART: Final = (
    "addtocart", "addedtocart", "cart", "cartadd", "addcart", "productadded", "productaddedtocart", "addtobasket",
    "basket", "addtobag", "begincheckout", "checkoutstarted", "initiatecheckout",
)  # fmt: skip
_VIEW: Final = (
    "view", "viewed", "views", "click", "clicked", "clicks", "watch", "pageview", "pv", "detail", "detailview",
    "detailpageview", "viewitem", "viewcontent", "viewproduct", "productview", "productviewed", "productclicked",
    "selectitem", "selectcontent", "itemview", "visit", "read", "open", "productdetail",
)  # fmt: skip
_WISHLIST: Final = (
    "wishlist", "wish", "favourite", "favorite", "favourited", "favorited", "fav", "like", "liked", "likes", "star",
    "starred", "bookmark", "save", "saved", "addtowishlist", "addtofavorites", "addtofavourites",
    "productaddedtowishlist", "collect",
)  # fmt: skip
EVENT_TYPE_ALIASES: Final = {
    **dict.fromkeys(_PURCHASE, "purchase"),
    **dict.fromkeys(_ADD_TO_CART, "add_to_cart"),
    **dict.fromkeys(_VIEW, "view"),
    **dict.fromkeys(_WISHLIST, "wishlist"),
    **dict.fromkeys(("rating", "rate", "rated", "review", "reviewed", "productreviewed", "stars"), "rating"),
    **dict.fromkeys(
        ("return", "returned", "refund", "refunded", "cancel", "cancelled", "canceled", "orderrefunded",
         "ordercancelled", "ordercanceled", "chargeback"), "return"),
    **dict.fromkeys(("share", "shared", "productshared"), "share"),
    **dict.fromkeys(("comment", "commented", "reply"), "comment"),
}  # fmt: skip
"""Event types of GA4, Segment, Meta, Retailrocket, Taobao, Gorse and others, without case, spaces and punctuation."""
