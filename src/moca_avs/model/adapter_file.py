"""What a file of adapters says of itself, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from moca_avs.errors import WeightsError
from moca_avs.utils.files import parse_json

ADAPTERS = "adapters.safetensors"
"""Name of the file, in a run, in one of its steps, and where weights are published."""


def read_adapter_config(path: Path) -> dict[str, Any]:
    """`AdapterSet.config` of a saved file: its encoder's name above all.

    Raises:
        WeightsError: if the file is missing, damaged, or no adapter file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise WeightsError(f"no adapters at {path}; give a file that training wrote") from error
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    if "moca_avs_adapters" not in metadata:
        raise WeightsError(f"{path} is a safetensors file, but not one of MoCA adapters")
    config: dict[str, Any] = parse_json(metadata["moca_avs_adapters"])
    latents = {int(name[5:7]): shape[1] for name, shape in shapes.items() if name.endswith(".latents")}
    widths = {layer: latents[block] for block, layer in config["pairs"] if block in latents}
    config["encoder"] = recorded_encoder(config["encoder"], widths)
    return config


def recorded_encoder(name: str, audio_widths: Mapping[int, int]) -> str:
    """The encoder that a saved adapter file means.

    Up to 0.2 `lite` heard with SoundNet-8, which is `lite-soundnet` now. The widths of the audio layers that
    adapters read tell the two apart: every placement reads a first or a last layer, and there they differ.

    Args:
        name: what the file calls it.
        audio_widths: audio layer -> width of its tokens.
    """
    soundnet = all(layer < 7 and width == 16 << layer for layer, width in audio_widths.items())
    return "lite-soundnet" if name == "lite" and soundnet else name
