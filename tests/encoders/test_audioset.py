"""The hand-made table from AudioSet's classes to ImageNet's."""

import csv
import hashlib

import numpy as np
import pytest

from moca_avs.encoders.audioset import TABLE, audioset_labels, imagenet_table

CLASS_MAP_SHA256 = "367b6136dfe5702df50f39ab6aaf8d877c24944dad1d3b6a7fefed33ce00cf1d"
"""Of the lines "mid display_name" of YAMNet's own yamnet_class_map.csv, joined by newlines."""

PARENTS = {  # AudioSet's ontology, where the table's row of the parent claims to hold its children
    "Animal": "Dog;Cat;Horse;Cattle, bovinae;Pig;Sheep;Bird;Insect;Frog;Snake;Whale vocalization;"
    "Roaring cats (lions, tigers);Canidae, dogs, wolves;Rodents, rats, mice;Wild animals",
    "Domestic animals, pets": "Dog;Cat",
    "Livestock, farm animals, working animals": "Horse;Cattle, bovinae;Pig;Goat;Sheep;Fowl",
    "Fowl": "Chicken, rooster;Turkey;Duck;Goose",
    "Bird": "Bird vocalization, bird call, bird song;Chirp, tweet;Squawk;Pigeon, dove;Crow;Owl",
    "Insect": "Cricket;Mosquito;Fly, housefly",
    "Canidae, dogs, wolves": "Dog;Howl",
    "Musical instrument": "Plucked string instrument;Keyboard (musical);Percussion;Brass instrument;"
    "Bowed string instrument;Wind instrument, woodwind instrument;Harp;Chime;Harmonica;Accordion",
    "Music": "Musical instrument",
    "Plucked string instrument": "Guitar;Banjo;Ukulele",
    "Percussion": "Drum kit;Drum;Snare drum;Cymbal;Maraca;Gong;Mallet percussion;Steelpan",
    "Brass instrument": "French horn;Trumpet;Trombone",
    "Bowed string instrument": "Violin, fiddle;Cello;Double bass",
    "Wind instrument, woodwind instrument": "Flute;Saxophone;Clarinet",
    "Vehicle": "Boat, Water vehicle;Motor vehicle (road);Rail transport;Aircraft;Bicycle;"
    "Traffic noise, roadway noise",
    "Boat, Water vehicle": "Sailboat, sailing ship;Rowboat, canoe, kayak;Motorboat, speedboat;Ship",
    "Motor vehicle (road)": "Car;Truck;Bus;Emergency vehicle;Motorcycle;Race car, auto racing",
    "Rail transport": "Train;Railroad car, train wagon;Subway, metro, underground",
    "Aircraft": "Helicopter;Fixed-wing aircraft, airplane;Jet engine;Propeller, airscrew",
    "Tools": "Hammer;Filing (rasp);Sanding;Power tool;Drill",
    "Dishes, pots, and pans": "Cutlery, silverware",
}

SPOT_CHECKS = {  # a sound's best known ImageNet classes
    "Bark": [151, 207, 254, 268],
    "Meow": [281, 284],
    "Owl": [24],
    "Cello": [486],
    "Accordion": [401],
    "Saxophone": [776],
    "Marimba, xylophone": [642],
    "Train": [466, 547, 820],
    "Ambulance (siren)": [407],
    "Chainsaw": [491],
    "Vacuum cleaner": [882],
    "Sewing machine": [786],
    "Typewriter": [878],
    "Machine gun": [413],
    "Waterfall": [562, 525],
    "Speech": [834, 903],
    "Baby cry, infant cry": [443, 529],
}


@pytest.fixture(scope="module")
def classes():
    table = imagenet_table()
    return {name: set(np.flatnonzero(row)) for name, row in zip(audioset_labels(), table, strict=True)}


@pytest.fixture(scope="module")
def rows():
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_its_rows_are_yamnets_classes_in_yamnets_order(rows):
    assert [row["index"] for row in rows] == [str(index) for index in range(521)]
    lines = "\n".join(f"{row['mid']} {row['name']}" for row in rows)
    assert hashlib.sha256(lines.encode()).hexdigest() == CLASS_MAP_SHA256
    assert audioset_labels() == tuple(row["name"] for row in rows)


def test_every_row_has_a_reason_and_valid_classes(rows):
    for row in rows:
        indices = [int(index) for index in row["imagenet"].split()]
        assert indices == sorted(set(indices) & set(range(1000)))
        assert 2 < len(row["reason"]) < 120
        assert row["reason"].isascii()


def test_the_table_holds_what_the_file_says(rows, classes):
    table = imagenet_table()
    assert (table.shape, table.dtype) == ((521, 1000), np.float32)
    assert set(np.unique(table)) == {0, 1}
    for row in rows:
        assert classes[row["name"]] == {int(index) for index in row["imagenet"].split()}
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1


@pytest.mark.parametrize("parent", PARENTS)
def test_a_general_sound_holds_its_kinds(classes, parent):
    for child in PARENTS[parent].split(";"):
        assert classes[child] <= classes[parent], (child, sorted(classes[child] - classes[parent]))


@pytest.mark.parametrize("sound", SPOT_CHECKS)
def test_well_known_pairs(classes, sound):
    assert set(SPOT_CHECKS[sound]) <= classes[sound]


def test_what_has_no_place_in_a_picture_has_no_classes(classes):
    for sound in ("Silence", "Echo", "White noise", "Sad music", "Inside, small room", "Field recording"):
        assert not classes[sound]
    assert sum(not found for found in classes.values()) < 60
