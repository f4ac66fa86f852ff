"""Constants of the demo shop: product kinds, styles, colours, patterns, brands.

In: nothing. Out: constant tables. Users prefer certain styles; the style of a product is never written to the shop's
data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recsys.data.demo import shapes_clothing as clothing
from recsys.data.demo import shapes_household as household
from recsys.data.demo.canvas import Canvas, Colour
from recsys.data.demo.shapes_clothing import Paint


@dataclass(frozen=True)
class ProductKind:
    """A kind of product.

    Attributes:
        category: name of the category.
        draw: draws the product on a canvas.
        english, chinese: nouns for titles.
        materials: (English, Chinese) pairs; varieties or scents for food and care products.
        price: typical price in euro.
        trend: the log demand rises from -trend to +trend over the 90 days from spring to summer; positive = more demand
            in summer.
        again: mean days until it is bought again, 0 = durable.
    """

    category: str
    draw: Callable[[Canvas, Paint], None]
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    materials: tuple[tuple[str, str], ...]
    price: float
    trend: float = 0.0
    again: int = 0


_COTTON, _LINEN, _WOOL, _DENIM = ("cotton", "棉质"), ("linen", "亚麻"), ("wool", "羊毛"), ("denim", "牛仔")
_LEATHER, _CANVAS, _SILK, _STRAW = ("leather", "皮革"), ("canvas", "帆布"), ("silk", "真丝"), ("straw", "草编")
_STONEWARE, _PORCELAIN, _GLASS = ("stoneware", "粗陶"), ("porcelain", "瓷"), ("glass", "玻璃")

KINDS = (
    ProductKind("T-shirts", clothing.t_shirt, ("T-shirt", "tee"), ("T恤", "短袖"), (_COTTON, _LINEN), 22, 0.8),
    ProductKind("Shirts", clothing.shirt, ("shirt", "button-down shirt"), ("衬衫",), (_COTTON, _LINEN, _DENIM), 45),
    ProductKind("Dresses", clothing.dress, ("dress", "summer dress"), ("连衣裙",), (_COTTON, _LINEN, _SILK), 65, 0.7),
    ProductKind("Skirts", clothing.skirt, ("skirt",), ("半身裙", "短裙"), (_COTTON, _DENIM, _WOOL), 42, 0.4),
    ProductKind("Trousers", clothing.trousers, ("trousers", "pants"), ("长裤", "裤子"), (_COTTON, _LINEN, _DENIM), 55),
    ProductKind("Jumpers", clothing.jumper, ("jumper", "sweater"), ("毛衣", "针织衫"), (_WOOL, _COTTON), 58, -1.1),
    ProductKind("Trainers", clothing.sneakers, ("trainers", "sneakers"), ("运动鞋", "休闲鞋"), (_CANVAS, _LEATHER), 70),
    ProductKind("Boots", clothing.boots, ("boots", "ankle boots"), ("靴子", "短靴"), (_LEATHER, _CANVAS), 110, -1.2),
    ProductKind("Sandals", clothing.sandals, ("sandals",), ("凉鞋",), (_LEATHER, _CANVAS), 40, 1.3),
    ProductKind("Hats", clothing.hat, ("hat", "cap"), ("帽子",), (_COTTON, _STRAW, _WOOL), 25, 0.9),
    ProductKind("Scarves", clothing.scarf, ("scarf",), ("围巾",), (_WOOL, _SILK, _COTTON), 30, -1.2),
    ProductKind("Handbags", household.handbag, ("handbag", "bag"), ("手提包", "包"), (_LEATHER, _CANVAS), 85),
    ProductKind("Backpacks", household.backpack, ("backpack", "rucksack"), ("双肩包", "背包"), (_CANVAS, _LEATHER), 75),
    ProductKind("Umbrellas", household.umbrella, ("umbrella",), ("雨伞",), (_COTTON, _SILK), 28, -0.6),
    ProductKind("Mugs", household.mug, ("mug", "cup"), ("马克杯", "杯子"), (_STONEWARE, _PORCELAIN), 14),
    ProductKind("Teapots", household.teapot, ("teapot",), ("茶壶",), (_STONEWARE, _PORCELAIN), 36, -0.4),
    ProductKind("Lamps", household.lamp, ("table lamp", "lamp"), ("台灯",), (_COTTON, _LINEN, _SILK), 68, -0.3),
    ProductKind("Cushions", household.cushion, ("cushion", "pillow"), ("抱枕", "靠垫"), (_COTTON, _LINEN, _WOOL), 26),
    ProductKind("Vases", household.vase, ("vase",), ("花瓶",), (_STONEWARE, _GLASS, _PORCELAIN), 32, 0.4),
    ProductKind(
        "Coffee", household.coffee, ("coffee", "coffee beans"), ("咖啡", "咖啡豆"),
        (("dark roast", "深烘"), ("light roast", "浅烘"), ("decaf", "低因")), 9.5, 0.0, 14,
    ),
    ProductKind(
        "Tea", household.tea, ("tea", "loose tea"), ("茶", "茶叶"),
        (("green", "绿茶"), ("black", "红茶"), ("jasmine", "茉莉")), 8.0, -0.2, 21,
    ),
    ProductKind(
        "Soap", household.soap, ("soap", "hand soap"), ("香皂", "手工皂"),
        (("lavender", "薰衣草"), ("lemon", "柠檬"), ("olive", "橄榄")), 5.5, 0.0, 24,
    ),
    ProductKind(
        "Candles", household.candle, ("candle", "scented candle"), ("蜡烛", "香薰蜡烛"),
        (("vanilla", "香草"), ("cedar", "雪松"), ("fig", "无花果")), 16, -0.5, 28,
    ),
    ProductKind(
        "Chocolate", household.chocolate, ("chocolate", "chocolate bar"), ("巧克力",),
        (("dark", "黑"), ("milk", "牛奶"), ("hazelnut", "榛子")), 4.5, -0.3, 12,
    ),
)  # fmt: skip
"""All product kinds, in the order in which products cycle through them."""


@dataclass(frozen=True)
class Family:
    """A colour family.

    Attributes:
        english, chinese: names of the colour.
        shades: RGB values; the first is the colour of prints.
    """

    english: str
    chinese: str
    shades: tuple[Colour, ...]


FAMILIES = (
    Family("red", "红色", ((190, 48, 44), (160, 36, 52), (208, 74, 58))),
    Family("pink", "粉色", ((232, 160, 176), (216, 126, 148), (242, 190, 194))),
    Family("orange", "橙色", ((226, 122, 48), (238, 146, 78), (204, 100, 44))),
    Family("yellow", "黄色", ((226, 176, 58), (238, 204, 96), (206, 154, 44))),
    Family("green", "绿色", ((74, 124, 82), (122, 150, 96), (50, 98, 78))),
    Family("teal", "青色", ((58, 136, 140), (92, 166, 162), (40, 108, 118))),
    Family("blue", "蓝色", ((74, 120, 188), (112, 156, 208), (54, 96, 160))),
    Family("navy", "藏青色", ((34, 48, 88), (44, 60, 108), (28, 40, 70))),
    Family("purple", "紫色", ((122, 84, 152), (154, 118, 178), (96, 62, 124))),
    Family("brown", "棕色", ((128, 86, 58), (104, 68, 48), (152, 108, 74))),
    Family("beige", "米色", ((212, 194, 164), (224, 210, 186), (196, 174, 142))),
    Family("grey", "灰色", ((146, 146, 150), (176, 176, 178), (112, 114, 120))),
    Family("black", "黑色", ((42, 40, 46), (54, 52, 58), (34, 34, 36))),
    Family("white", "白色", ((244, 242, 236), (236, 234, 228), (248, 246, 242))),
)
"""All colour families."""

PATTERN_NAMES = {
    "plain": ("plain", "纯色"),
    "stripes": ("striped", "条纹"),
    "dots": ("polka dot", "波点"),
    "checks": ("checked", "格纹"),
    "floral": ("floral", "碎花"),
    "zigzag": ("zigzag", "锯齿纹"),
    "triangles": ("geometric", "几何"),
}
"""(English, Chinese) name in texts for each pattern of `patterns.PATTERNS`."""


@dataclass(frozen=True)
class Style:
    """A hidden style, shared by products of all kinds.

    Attributes:
        name: name for tests only; it is not written to the shop's data.
        patterns: probability of each pattern, by its name.
        colours: names of colour families, the most frequent first.
        brands: an expensive and a cheap brand of this style.
        moods: (English, Chinese) phrases for descriptions.
    """

    name: str
    patterns: dict[str, float]
    colours: tuple[str, ...]
    brands: tuple[str, str]
    moods: tuple[tuple[str, str], ...]


STYLES = (
    Style(
        "marine",
        {"stripes": 0.72, "plain": 0.2, "dots": 0.08},
        ("navy", "white", "blue", "red"),
        ("Saltmarsh", "Little Harbour"),
        (
            ("for days by the sea", "适合海边的日子"),
            ("fresh like a harbour morning", "清新如港口的早晨"),
            ("packed for the island", "带去海岛度假"),
        ),
    ),
    Style(
        "cottage",
        {"floral": 0.74, "dots": 0.14, "plain": 0.12},
        ("pink", "white", "green", "purple"),
        ("Willow & Wren", "Honeyfield"),
        (
            ("made for garden picnics", "适合花园野餐"),
            ("romantic and light", "浪漫轻盈"),
            ("like a walk through a meadow", "仿佛漫步草地"),
        ),
    ),
    Style(
        "minimal",
        {"plain": 0.9, "stripes": 0.1},
        ("beige", "grey", "white", "black"),
        ("Studio Nord", "Plainform"),
        (
            ("nothing too much", "简约不繁复"),
            ("calm lines for every day", "线条利落的日常之选"),
            ("quiet and modern", "安静而现代"),
        ),
    ),
    Style(
        "street",
        {"zigzag": 0.45, "triangles": 0.35, "plain": 0.2},
        ("black", "purple", "orange", "yellow"),
        ("Kerb & Co", "Neonkat"),
        (
            ("loud enough for the city at night", "点亮城市夜晚"),
            ("for skaters and concert goers", "滑板与音乐会必备"),
            ("made to be noticed", "引人注目"),
        ),
    ),
    Style(
        "heritage",
        {"checks": 0.74, "plain": 0.18, "stripes": 0.08},
        ("brown", "green", "navy", "red"),
        ("Aldwick", "Moor & Mill"),
        (
            ("for weekends in the country", "适合乡村周末"),
            ("old craft, made to last", "传统工艺，经久耐用"),
            ("by the fireplace", "炉火边的温暖"),
        ),
    ),
    Style(
        "retro",
        {"dots": 0.6, "triangles": 0.25, "plain": 0.15},
        ("teal", "orange", "yellow", "red"),
        ("Sixtynine", "Dotty Lane"),
        (
            ("straight out of the sixties", "重现六十年代"),
            ("with a wink at the flea market", "跳蚤市场的复古趣味"),
            ("vintage and cheerful", "复古又欢快"),
        ),
    ),
)
"""All styles."""

GENERAL_BRANDS = ("Marlo", "Basis", "Everyday Goods")
"""Brands that sell products of every style."""
