"""What the catalogue knows about its kinds of product, in its sellers' words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A product type of the catalogue.

    Attributes:
        noun: the word in its English names.
        german, spanish: the same for listings in other languages.
        materials: what it is made of, each as likely as the next.
        forms: its item_shape, if the type has one.
        keywords: search terms.
    """

    noun: str
    german: str
    spanish: str
    materials: tuple[str, ...]
    keywords: tuple[str, ...]
    forms: tuple[str, ...] = ()


SOFT = ("fabric", "leather", "plastic")
HARD = ("wood", "metal", "plastic", "glass")
SEAT = ("wood", "metal", "plastic", "leather", "fabric")
VESSEL = ("ceramic", "glass", "metal", "plastic", "wood")

KINDS: dict[str, Kind] = {
    "BACKPACK": Kind("Backpack", "Rucksack", "Mochila", SOFT, ("backpack", "school bag", "travel")),
    "BED": Kind(
        "Bed",
        "Bett",
        "Cama",
        ("wood", "metal", "fabric", "leather"),
        ("bed", "bed frame", "bedroom furniture"),
    ),
    "BOOK": Kind(
        "Book",
        "Buch",
        "Libro",
        ("leather", "fabric", "plastic", "wood"),
        ("book", "notebook", "journal", "office"),
    ),
    "BOTTLE": Kind(
        "Bottle",
        "Flasche",
        "Botella",
        ("glass", "metal", "plastic", "ceramic"),
        ("bottle", "water bottle", "kitchen"),
    ),
    "BOWL": Kind("Bowl", "Schale", "Cuenco", VESSEL, ("bowl", "salad bowl", "tableware")),
    "CANDLE": Kind(
        "Candle",
        "Kerze",
        "Vela",
        ("ceramic", "glass", "plastic", "metal"),
        ("candle", "pillar candle", "home decor"),
    ),
    "CELLULAR_PHONE_CASE": Kind(
        "Phone Case",
        "Handyhülle",
        "Funda",
        ("plastic", "leather", "wood", "metal", "fabric"),
        ("phone case", "back cover", "mobile accessory", "protective"),
    ),
    "CHAIR": Kind("Chair", "Stuhl", "Silla", SEAT, ("chair", "dining chair", "seat")),
    "CLOCK": Kind(
        "Clock",
        "Uhr",
        "Reloj",
        (*HARD, "ceramic"),
        ("clock", "wall clock", "timepiece"),
        ("round", "square"),
    ),
    "HANDBAG": Kind("Handbag", "Handtasche", "Bolso", SOFT, ("handbag", "purse", "women bag")),
    "HAT": Kind("Hat", "Hut", "Sombrero", SOFT, ("hat", "sun hat", "headwear")),
    "KETTLE": Kind(
        "Kettle",
        "Kessel",
        "Tetera",
        ("metal", "ceramic", "glass", "plastic"),
        ("kettle", "tea kettle", "stove"),
    ),
    "KEYCHAIN": Kind(
        "Keychain",
        "Anhänger",
        "Llavero",
        ("leather", "metal", "wood", "plastic"),
        ("keychain", "key ring", "gift"),
    ),
    "LAMP": Kind(
        "Lamp",
        "Lampe",
        "Lámpara",
        (*HARD, "ceramic", "fabric"),
        ("lamp", "reading light", "lighting"),
    ),
    "MUG": Kind("Mug", "Becher", "Taza", VESSEL, ("mug", "coffee mug", "tea cup")),
    "PILLOW": Kind(
        "Pillow",
        "Kissen",
        "Cojín",
        SOFT,
        ("pillow", "cushion", "sofa decor"),
        ("square", "rectangular", "round"),
    ),
    "PLATE": Kind(
        "Plate",
        "Teller",
        "Plato",
        VESSEL,
        ("plate", "dinner plate", "tableware"),
        ("round", "square"),
    ),
    "RING": Kind(
        "Ring",
        "Ring",
        "Anillo",
        ("metal", "wood", "plastic", "ceramic"),
        ("ring", "jewelry", "gift"),
    ),
    "RUG": Kind(
        "Rug",
        "Teppich",
        "Alfombra",
        SOFT,
        ("rug", "area rug", "carpet", "floor"),
        ("rectangular", "round", "oval"),
    ),
    "SHELF": Kind("Shelf", "Regal", "Estante", HARD, ("shelf", "bookcase", "storage")),
    "SHOES": Kind("Shoes", "Schuhe", "Zapatos", SOFT, ("shoes", "sneakers", "footwear")),
    "SOFA": Kind("Sofa", "Sofa", "Sofá", SEAT, ("sofa", "couch", "living room furniture")),
    "STOOL": Kind("Stool", "Hocker", "Taburete", SEAT, ("stool", "bar stool", "seat")),
    "SUITCASE": Kind(
        "Suitcase", "Koffer", "Maleta", (*SOFT, "metal"), ("suitcase", "luggage", "travel")
    ),
    "TABLE": Kind(
        "Table",
        "Tisch",
        "Mesa",
        HARD,
        ("table", "coffee table", "dining furniture"),
        ("round", "rectangular"),
    ),
    "UMBRELLA": Kind("Umbrella", "Regenschirm", "Paraguas", SOFT, ("umbrella", "rain", "outdoor")),
    "VASE": Kind("Vase", "Vase", "Florero", VESSEL, ("vase", "flower vase", "home decor")),
    "WATCH": Kind(
        "Watch",
        "Armbanduhr",
        "Reloj",
        ("leather", "metal", "fabric", "plastic"),
        ("watch", "wrist watch", "accessory"),
    ),
}

# Trade names end with the plain colour, so that the last word is the visible colour.
TRADE_COLORS = {
    "black": "Jet Black",
    "white": "Snow White",
    "gray": "Charcoal Gray",
    "red": "Cherry Red",
    "orange": "Tangerine Orange",
    "yellow": "Lemon Yellow",
    "green": "Forest Green",
    "blue": "Royal Blue",
    "purple": "Lavender Purple",
    "pink": "Rose Pink",
    "brown": "Chocolate Brown",
}

GERMAN_COLORS = {
    "black": "Schwarz",
    "white": "Weiß",
    "gray": "Grau",
    "red": "Rot",
    "orange": "Orange",
    "yellow": "Gelb",
    "green": "Grün",
    "blue": "Blau",
    "purple": "Lila",
    "pink": "Rosa",
    "brown": "Braun",
}

SPANISH_COLORS = {
    "black": "Negro",
    "white": "Blanco",
    "gray": "Gris",
    "red": "Rojo",
    "orange": "Naranja",
    "yellow": "Amarillo",
    "green": "Verde",
    "blue": "Azul",
    "purple": "Morado",
    "pink": "Rosa",
    "brown": "Marrón",
}

BRANDS = (
    "Northfold",
    "Pinebrook",
    "Haldenware",
    "Juniper Lane",
    "Ostrava Home",
    "Tidemark",
    "Copperleaf",
    "Meadowhall",
    "Rivington",
    "Kestrel",
    "Lumenwick",
    "Sagebarrow",
)
STYLES = ("Modern", "Classic", "Casual", "Traditional", "Contemporary")
BULLETS = (
    "Made to last, easy to care for",
    "A thoughtful gift for birthdays and housewarmings",
    "Sturdy build for everyday use",
    "Wipe clean with a damp cloth",
    "Packed in recycled cardboard",
    "Designed to go with the rest of the series",
)
CAPACITY = ("Small", "Large", "Medium")
