"""Classes that sound or look alike. A silent distractor is never of the heard object's class or family.

Written down from common sense, before any result; a class may belong to several families.
"""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "plucked strings": ("guitar", "electric_guitar", "banjo", "harp"),
    "bowed strings": ("violin", "cello"),
    "drums": ("drum_kit", "tom_drum", "snare_drum", "bongo", "timpani", "tambourine"),
    "metal and shakers": ("cymbal", "drum_kit", "triangle", "tambourine", "maracas", "castanets"),
    "brass": ("trumpet", "trombone", "tuba", "horn", "saxophone"),
    "woodwind": ("flute", "clarinet", "bassoon", "saxophone"),
    "reeds": ("accordion", "harmonica"),
    "keys": ("piano", "accordion"),
    "knocks": ("hammer", "castanets", "camera", "scissors"),
    "crows": ("crow", "blackbird"),
    "song birds": ("blackbird", "lark", "bird", "cuckoo", "quetzal"),
    "exotic birds": ("bird", "toucan", "quetzal", "peacock"),
    "hooting birds": ("owl", "cuckoo"),
    "poultry": ("chicken", "rooster", "turkey", "peacock"),
    "water birds": ("duck", "goose", "rubberduck", "flamingo", "heron", "penguin", "seagull", "sea_lion"),
    "birds of prey": ("vulture", "owl"),
    "insects": ("bee", "hornet", "grasshopper"),
    "equines": ("donkey", "horse", "zebra"),
    "cattle": ("cow", "bison"),
    "small cattle": ("sheep", "goat", "deer", "camel"),
    "swine": ("pig", "boar", "hippopotamus"),
    "dogs": ("dog", "fox", "wolf"),
    "cats": ("cat", "lion", "tiger"),
    "beasts that roar": ("lion", "tiger", "bear", "elephant", "hippopotamus", "gorilla", "koala"),
    "apes": ("chimp", "gorilla"),
    "sea mammals": ("dolphin", "orca", "whale", "sea_lion"),
    "small mammals": ("mouse", "squirrel", "rabbit", "ferret", "badger"),
    "motors on the road": ("car", "bus", "truck", "firetruck"),
    "engines": ("plane", "helicopter", "train", "bus", "truck", "car", "firetruck"),
    "household motors": ("vacuum_cleaner", "washing_machine"),
    "tools": ("saw", "hammer"),
    "water in the house": ("toilet", "bottle", "washing_machine"),
    "frogs and ducks": ("frog", "duck"),
}


def confusable(first: str, second: str) -> bool:
    """Whether two classes are the same or share a family."""
    if first == second:
        return True
    return any(first in members and second in members for members in FAMILIES.values())
