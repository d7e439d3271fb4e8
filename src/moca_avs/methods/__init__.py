"""Ways to segment a clip, all interchangeable: ``Clip -> Segmentation``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moca_avs.errors import WeightsError
from moca_avs.methods.config import BaselineConfig, MethodConfig, MocaConfig
from moca_avs.utils.registry import Registry

if TYPE_CHECKING:
    from moca_avs.methods.base import Method
    from moca_avs.methods.factory import MethodParts
    from moca_avs.methods.source import MethodChoice
    from moca_avs.proposals.base import Proposer


@dataclass(frozen=True)
class MethodEntry:
    """A registered method.

    Attributes:
        build: (config, parts) -> the method, ready to be called with a clip.
        description: one line.
        config: class of its config.
        kind: which part of a preset's ``config.json`` it reads.
        adapters: whether it needs trained adapters; else it is built without, also from a run's folder.
    """

    build: Callable[[Any, MethodParts], Method]
    description: str = ""
    config: type[MethodConfig] = MocaConfig
    kind: Literal["method", "baseline"] = "method"
    adapters: bool = False


METHODS: Registry[MethodEntry] = Registry("method", "moca_avs.methods")
"""Name -> entry; `register_method` adds one."""


def register_method(
    name: str,
    build: Callable[[Any, MethodParts], Method],
    description: str = "",
    *,
    config: type[MethodConfig] = MocaConfig,
    kind: Literal["method", "baseline"] = "method",
    adapters: bool = False,
    replace: bool = False,
) -> None:
    """Add a method: `load`, the command line and the evaluation know it by its name from then on.

    Args:
        name: how it is asked for.
        build: (config, parts) -> the method; `parts` (`moca_avs.methods.factory.MethodParts`) builds the
            encoder, proposers and taggers when they are first asked for.
        description: one line.
        config: a subclass of `MethodConfig` whose fields are the method's settings.
        kind: which part of a preset's ``config.json`` gives the config's values.
        adapters: whether it needs trained adapters (`MethodParts.adapters`).
        replace: allow a name that is taken already.

    Raises:
        UsageError: for a name that is taken.
    """
    METHODS.register(name, MethodEntry(build, description, config, kind, adapters), replace=replace)


def list_methods() -> dict[str, str]:
    """Name -> description of every method, registered ones included."""
    return {name: entry.description for name, entry in METHODS.items()}


def load(
    name: str = "lite",
    method: str | None = None,
    device: str = "auto",
    weights: str | Path | None = None,
    models: Mapping[str, str] | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    wrap_proposer: Callable[[Proposer], Proposer] | None = None,
    **settings: Any,
) -> Method:
    """Build a method, ready to be called with a clip.

    Args:
        name: a preset ("lite", "imagebind", "languagebind", "lite-soundnet"), a training run's folder (its
            newest step is taken), a folder with ``adapters.safetensors``, or a Hub id ("owner/name").
        method: a key of `METHODS`: "moca", "frozen", "at-gdino-sam", "owod-bind", "sam-bind". None takes the
            best one measured: "frozen" for a preset, "moca" for a run.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        weights: folder with a sub-folder per foundation model (``imagebind/``, ``sam/``, ...); None takes
            ``$MOCA_AVS_WEIGHTS``, and without it the Hub.
        models: foundation model -> another folder or Hub id, like ``{"sam": "facebook/sam-vit-base"}``.
        config: settings that go before the preset's: "paper" (`moca_avs.methods.config.PAPER`), a JSON file
            of settings, or a mapping.
        wrap_proposer: put around each proposer that is built (a cache on disk, for example).
        settings: fields of the method's config (`MocaConfig` or `BaselineConfig` of
            `moca_avs.methods.config`), and the encoder's ``image_size`` and ``dilate``. What is not given
            comes from `config`, then the folder's ``config.json``, then the preset's, then the dataclass.

    Returns:
        Callable ``Clip -> Segmentation`` with ``.settings``; it also takes a path, or frames with audio.

    Raises:
        UsageError: for an unknown name, method, device, config or setting.
        WeightsError: for weights that are missing, damaged or another encoder's.

    Examples:
        Skipped where docstrings are tested: it needs a video and the weights.

        >>> import moca_avs
        >>> method = moca_avs.load("lite")  # doctest: +SKIP
        >>> result = method("band.mp4")  # doctest: +SKIP
    """
    from moca_avs.methods.factory import build_method

    choice = choose_method(name, method, weights, models, config, settings)
    check_weights(choice)
    return build_method(choice, device, wrap_proposer)


def choose_method(
    name: str = "lite",
    method: str | None = None,
    weights: str | Path | None = None,
    models: Mapping[str, str] | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> MethodChoice:
    """Check all that decides a method, and resolve it; imports no torch, builds and fetches nothing.

    The arguments are those of `load`; a Hub id's adapters alone are fetched, for they say more.

    Raises:
        UsageError, WeightsError: as `load`, but for foundation models that are missing.
    """
    from moca_avs.hub.huggingface import ModelSources
    from moca_avs.methods.factory import check_names
    from moca_avs.methods.source import MethodChoice, configure, find_source, given_config

    source = find_source(name)
    method = source.default_method if method is None else method
    entry = METHODS.find(method)
    if entry.adapters and source.adapters is None:
        raise WeightsError(
            f"no trained adapters ship with the preset {name!r}; train some (moca train) and give the run's "
            "folder, or use the method 'frozen', which needs none"
        )
    sources = ModelSources(None if weights is None else Path(weights), dict(models or {}))
    options, chosen = configure(entry, [*source.configs, given_config(config)], settings or {})
    check_names(chosen)
    adapters = source.adapters if entry.adapters else None
    return MethodChoice(method, entry, source.encoder, options, adapters, chosen, sources)


def check_weights(choice: MethodChoice) -> None:
    """See that what a method needs is here or can be fetched; fetches nothing.

    Raises:
        WeightsError: one that names everything that is missing, with sizes.
    """
    from moca_avs.hub.available import require_weights
    from moca_avs.methods.needs import needed_weights

    require_weights(needed_weights(choice), choice.sources)


def _builtin(method: str) -> Callable[[Any, MethodParts], Method]:
    """Builds one of our own methods; the factory is imported when one is built."""

    def build(config: Any, parts: MethodParts) -> Method:
        from moca_avs.methods import factory

        return factory.BUILDERS[method](config, parts)

    return build


register_method(
    "moca",
    _builtin("moca"),
    "the paper's method: trained adapters, clustering, proposal matching",
    adapters=True,
)
register_method("frozen", _builtin("frozen"), "the same without adapters: nothing trained")
for _name, _description in (
    ("at-gdino-sam", "names the sound, finds what is named, cuts it out"),
    ("owod-bind", "boxes around anything, kept where they match the sound"),
    ("sam-bind", "masks of anything, kept where they match the sound"),
):
    register_method(_name, _builtin(_name), _description, config=BaselineConfig, kind="baseline")
