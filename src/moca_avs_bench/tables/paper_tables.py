"""The paper's ten tables: their rows, columns and reported numbers."""

from __future__ import annotations

from moca_avs.errors import UsageError
from moca_avs_bench.tables.spec import (
    IMAGE_SIZE,
    INFERENCE,
    SALIENCY,
    STEP_0,
    SUPERVISED,
    WITHOUT_MPM,
    Comparator,
    Oracle,
    Preset,
    SaliencyBaseline,
    System,
    Table,
    TableColumn,
    TableRow,
    TrainedMoca,
    Unavailable,
    masks_on,
)


def _without_classes(
    title: str, system: System, group: str, size: str, *reported: float, mask_free: str = "yes"
) -> TableRow:
    """A row without AVSS numbers."""
    numbers = (*reported, None, None) if reported else ()
    return TableRow(title, system, numbers, group, (mask_free, size), ("s4", "ms3"), "names no classes")


def _supervised(title: str, size: str, *reported: float | None) -> TableRow:
    return TableRow(title, Unavailable(SUPERVISED), reported, "supervised", ("no", size))


def _baseline(title: str, method: str, *reported: float) -> TableRow:
    system = Preset(method, {"image_size": IMAGE_SIZE})
    return TableRow(title, system, reported, "baseline", ("yes", "–"))


_LOCAL, _SALIENT = "localization", "saliency"

TABLE_1 = Table(
    1,
    "Performance on the test splits of S4, MS3 and AVSS",
    (
        *masks_on("s4", "ms3"),
        TableColumn("avss", "class_miou", "AVSS mIoU"),
        TableColumn("avss", "class_f", "AVSS F"),
    ),
    (
        _supervised("AV-SAM", "1191 M", 0.40, 0.56, None, None, None, None),
        _supervised("AVSBench", "101 M", 0.78, 0.87, 0.54, 0.64, 0.29, 0.35),
        _supervised("SAMA-AVS", "75 M", 0.81, 0.90, 0.63, 0.69, None, None),
        _supervised("DG-SCT", "342 M", 0.80, 0.89, 0.53, 0.64, None, None),
        _without_classes("iGAN", Unavailable(SALIENCY), _SALIENT, "86 M", 0.61, 0.77, 0.42, 0.54),
        _without_classes("LGVT", Unavailable(SALIENCY), _SALIENT, "90 M", 0.74, 0.87, 0.40, 0.59),
        _without_classes("U²-Netp (not in the paper)", SaliencyBaseline(), _SALIENT, "–"),
        _without_classes("LVS", Comparator("lvs"), _LOCAL, "20 M", 0.37, 0.51, 0.29, 0.33),
        _without_classes("MSSL", Unavailable("no code of ours"), _LOCAL, "21 M", 0.44, 0.66, 0.26, 0.36),
        _without_classes("EZ-VSL", Comparator("ez-vsl"), _LOCAL, "18 M", 0.45, 0.68, 0.28, 0.34),
        _without_classes(
            "Mix-and-Localize", Comparator("mix-and-localize"), _LOCAL, "19 M", 0.44, 0.69, 0.32, 0.36
        ),
        _baseline("AT-GDINO-SAM", "at-gdino-sam", 0.38, 0.46, 0.25, 0.29, 0.24, 0.25),
        _baseline("SAM-BIND", "sam-bind", 0.42, 0.51, 0.28, 0.36, 0.24, 0.26),
        _baseline("OWOD-BIND", "owod-bind", 0.58, 0.67, 0.34, 0.44, 0.26, 0.29),
        TableRow("MoCA", TrainedMoca(), (0.68, 0.79, 0.57, 0.62, 0.31, 0.33), "MoCA", ("yes", "1.3 M")),
        TableRow("frozen: step 0 (not in the paper)", Preset("frozen", INFERENCE), group="MoCA"),
        TableRow(
            "shipped weights (not in the paper)",
            Preset("moca"),
            group="MoCA",
        ),
    ),
    facts=("mask-free training (reported)", "learnable parameters (reported)"),
)


TABLE_2 = Table(
    2,
    "Pixel matching aggregation (PMA) and mask proposal matching (MPM), MS3",
    masks_on("ms3"),
    (
        TableRow("PMA without MPM", TrainedMoca(inference=WITHOUT_MPM), (0.52, 0.59)),
        TableRow("MPM without PMA: an ORACLE, told the truth", Oracle(), (0.34, 0.44)),
        TableRow("PMA and MPM (MoCA)", TrainedMoca(), (0.57, 0.62)),
        TableRow(
            "no PMA in training: maps pooled to vectors, and MPM (not in the paper)",
            TrainedMoca({"aggregation": "pool"}),
        ),
        STEP_0,
    ),
    notes=(
        "The paper's second row picks, for each truth, the mask nearest to it: no system can do that without "
        "the answer.",
    ),
)


TABLE_3 = Table(
    3,
    "Localization methods with mask proposal matching (MPM), MS3",
    (TableColumn("ms3", "miou", "MS3 mIoU"),),
    (
        TableRow("Mix-and-Localize", Comparator("mix-and-localize")),
        TableRow("Mix-and-Localize + MPM", Comparator("mix-and-localize", {"refine": "mpm"}), (0.45,)),
        TableRow("EZ-VSL", Comparator("ez-vsl")),
        TableRow("EZ-VSL + MPM", Comparator("ez-vsl", {"refine": "mpm"}), (0.43,)),
        TableRow("LVS + MPM (not in the paper)", Comparator("lvs", {"refine": "mpm"})),
        TableRow("MoCA without MPM", TrainedMoca(inference=WITHOUT_MPM), (0.52,)),
        TableRow("MoCA", TrainedMoca(), (0.57,)),
        STEP_0,
    ),
)


TABLE_4 = Table(
    4,
    "Effect of SSD and NCC",
    masks_on("s4", "ms3"),
    (
        TableRow("SSD", TrainedMoca({"ncc": 0.0}), (0.61, 0.72, 0.40, 0.57)),
        TableRow("NCC", TrainedMoca({"ssd": 0.0}), (0.65, 0.76, 0.44, 0.59)),
        TableRow("SSD + NCC", TrainedMoca(), (0.68, 0.79, 0.57, 0.62)),
        STEP_0,
    ),
)


TABLE_5 = Table(
    5,
    "Effect of the number of AdaAV blocks",
    masks_on("s4", "ms3"),
    (
        TableRow("2", TrainedMoca({"count": 2}), (0.60, 0.69, 0.39, 0.47)),
        TableRow("4", TrainedMoca({"count": 4}), (0.65, 0.73, 0.43, 0.51)),
        TableRow("6", TrainedMoca({"count": 6}), (0.68, 0.79, 0.57, 0.62)),
        STEP_0,
    ),
)


TABLE_6 = Table(
    6,
    "Effect of the position of the six AdaAV blocks",
    masks_on("s4", "ms3"),
    (
        TableRow("interleaved", TrainedMoca({"placement": "interleaved"}), (0.68, 0.77, 0.56, 0.60)),
        TableRow("first-k", TrainedMoca({"placement": "first"}), (0.67, 0.78, 0.54, 0.60)),
        TableRow("last-k", TrainedMoca({"placement": "last"}), (0.68, 0.79, 0.57, 0.62)),
        STEP_0,
    ),
)


TABLE_7 = Table(
    7,
    "MoCA and localization methods, MS3",
    masks_on("ms3"),
    (
        TableRow("LVS", Comparator("lvs"), (0.29, 0.33)),
        TableRow("MSSL", Unavailable("no code of ours"), (0.26, 0.36)),
        TableRow("MoCA without MPM", TrainedMoca(inference=WITHOUT_MPM), (0.52, 0.59)),
        TableRow("MoCA", TrainedMoca(), (0.57, 0.62)),
        STEP_0,
    ),
)


_SET = "vggsound-single"

TABLE_8 = Table(
    8,
    "Sound source localization, VGGSound-Single",
    (
        TableColumn(_SET, "ciou", "IoU@0.5", "lvs"),
        TableColumn(_SET, "auc", "AUC", "lvs"),
        TableColumn(_SET, "ciou", "IoU@0.5 of the mask", "mask"),
        TableColumn(_SET, "auc", "AUC of the mask", "mask"),
    ),
    (
        TableRow("Mix-and-Localize", Comparator("mix-and-localize"), (0.363, 0.389, None, None)),
        TableRow("EZ-VSL", Comparator("ez-vsl"), (0.389, 0.395, None, None)),
        TableRow("LVS (not in the paper's table)", Comparator("lvs")),
        TableRow("MoCA", TrainedMoca(), (0.406, 0.435, None, None)),
        TableRow("frozen: step 0 (not in the paper)", Preset("frozen", INFERENCE)),
        TableRow("shipped weights (not in the paper)", Preset("moca")),
    ),
    notes=(
        "The first two columns take the half of every image above the heat map's median for predicted "
        "(protocol lvs), so that a centered disk of half the area does well: see it among the nulls. The "
        "last two score the mask as it is.",
    ),
)


TABLE_9 = Table(
    9,
    "Effect of the triplet loss's margin, MS3",
    masks_on("ms3"),
    (
        TableRow("0.1", TrainedMoca({"margin": 0.1}), (0.54, 0.56)),
        TableRow("0.3", TrainedMoca({"margin": 0.3}), (0.57, 0.62)),
        TableRow("0.5", TrainedMoca({"margin": 0.5}), (0.56, 0.58)),
        STEP_0,
    ),
)


_REPORTED = {0.1: (0.35, 0.39), 0.3: (0.48, 0.48), 0.5: (0.57, 0.62), 0.7: (0.52, 0.54), 0.9: (0.54, 0.54)}

TABLE_10 = Table(
    10,
    "Effect of the IoU threshold of mask proposal matching, MS3",
    masks_on("ms3"),
    (
        *(
            TableRow(f"{threshold}", TrainedMoca(inference={"match_iou": threshold}), reported)
            for threshold, reported in _REPORTED.items()
        ),
        TableRow(
            "0.9, unmatched frames left empty (the paper's text)",
            TrainedMoca(inference={"match_iou": 0.9, "when_unmatched": "empty"}),
        ),
        TableRow("no MPM (not in the paper's table)", TrainedMoca(inference=WITHOUT_MPM)),
        STEP_0,
    ),
)


TABLES = (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLE_8, TABLE_9, TABLE_10)
NUMBERS = tuple(range(1, len(TABLES) + 1))


def load_table(number: int) -> Table:
    """A table of the paper by its number.

    Raises:
        UsageError: for a number that the paper doesn't have.
    """
    if number not in NUMBERS:
        raise UsageError(f"the paper has tables 1 to {NUMBERS[-1]}, found {number}")
    return TABLES[number - 1]
