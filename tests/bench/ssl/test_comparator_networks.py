"""ResNet-18 against transformers' own, spectrograms against scipy's, files of other networks refused."""

import cv2
import numpy as np
import pytest
import torch
from scipy import signal
from transformers import ResNetConfig, ResNetModel

from moca_avs.errors import WeightsError
from moca_avs_bench.ssl.backbone import (
    SAMPLE_RATE,
    ResNet18,
    enlarged,
    load_backbone,
    log_spectrogram,
    pixels,
    plain_state,
    wave,
)
from moca_avs_bench.ssl.method import new_system

RNG = np.random.default_rng(0)


def reference_name(name):
    """Our (torchvision's) name of a tensor as transformers calls it."""
    *path, part, leaf = name.split(".")
    if not path:
        return f"embedder.embedder.{'convolution' if part == 'conv1' else 'normalization'}.{leaf}"
    stage, block = int(path[0][5:]) - 1, path[1]
    base = f"encoder.stages.{stage}.layers.{block}"
    if path[2:] == ["downsample"]:
        return f"{base}.shortcut.{('convolution', 'normalization')[int(part)]}.{leaf}"
    kind = "convolution" if part.startswith("conv") else "normalization"
    return f"{base}.layer.{int(part[-1]) - 1}.{kind}.{leaf}"


def randomized(network):
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2, generator=generator)
            for value in (part.running_mean, part.weight.data, part.bias.data):
                value.normal_(1, 0.3, generator=generator)
    return network


def test_resnet18_is_transformers_resnet18():
    config = ResNetConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", embedding_size=64
    )
    reference, ours = ResNetModel(config).eval(), randomized(ResNet18()).eval()
    state = {reference_name(name): value for name, value in plain_state(ours).items()}
    missing, unexpected = reference.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(images).last_hidden_state
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (2, 512, 2, 3)
    assert sum(p.numel() for p in ours.parameters()) == 11_689_512 - 513_000  # less the classifier


def test_the_last_stride_sets_the_grid():
    network = ResNet18(1, last_stride=1).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 512, 4, 4)


def test_a_torchvision_file_loads_and_others_do_not(tmp_path):
    source = randomized(ResNet18())
    whole = {**source.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(whole, tmp_path / "resnet18.pth")
    network = ResNet18()
    load_backbone(network, tmp_path / "resnet18.pth")
    for name, value in plain_state(source).items():
        assert torch.equal(network.state_dict()[name], value), name
    for change, message in (
        ({"layer3.2.conv1.weight": torch.zeros(256, 256, 3, 3)}, "does not have"),
        ({"fc.weight": torch.zeros(10, 512)}, "other shapes"),
        ({"conv1.weight": None}, "lacks"),
    ):
        state = {name: value for name, value in {**whole, **change}.items() if value is not None}
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match=message):
            load_backbone(ResNet18(), tmp_path / "other.pth")
    torch.save({"conv1.weight": np.dtype}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match=r"code\.pth"):
        load_backbone(ResNet18(), tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="missing"):
        load_backbone(ResNet18(), tmp_path / "nowhere.pth")


def test_the_spectrogram_is_scipys():
    waves = torch.from_numpy(RNG.uniform(-1, 1, (2, 3000)))
    waves[1] *= 1e-4  # near the floor
    _, _, density = signal.spectrogram(waves.numpy(), SAMPLE_RATE, nperseg=512, noverlap=274)
    expected = np.log(density + 1e-7) / 12
    found = log_spectrogram(waves)
    assert found.shape == (2, 1, 257, 1 + (3000 - 512) // 238)
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_spectrogram(waves.float())[:, 0].numpy(), expected, atol=1e-4)


def test_a_wave_is_the_middle_and_short_ones_repeat():
    sound = np.arange(8000, dtype=np.float32) / 8000
    assert wave(sound, SAMPLE_RATE, 0.25).numpy() == pytest.approx(sound[2000:6000])
    assert wave(sound, SAMPLE_RATE, 0.75).numpy() == pytest.approx(np.concatenate([sound, sound[:4000]]))
    assert wave(3 * sound, SAMPLE_RATE, 0.5).max() == 1
    assert wave(sound, 8000, 0.5).shape == (8000,)


def test_pixels_are_imagenet_normalized():
    frame = np.full((5, 9, 3), (124, 116, 104), np.uint8)
    found = pixels([frame, frame[:3]], 32)
    assert found.shape == (2, 3, 32, 32)
    expected = (np.array([124, 116, 104]) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert found[1, :, 7, 3].numpy() == pytest.approx(expected, abs=1e-5)


def norms(network):
    found = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert not any(part.bias.any() for part in found)
    return torch.cat([part.weight.detach() for part in found])


@pytest.mark.parametrize(
    ("name", "image", "sound"),
    [("lvs", True, True), ("ez-vsl", False, True), ("mix-and-localize", False, False)],
)
def test_batch_norms_start_as_the_authors_do(name, image, sound):
    system = new_system(name, 0)
    for network, spread in ((system.image_net, image), (system.sound_net, sound)):
        weights = norms(network)
        if spread:  # 4,800 draws from N(1, .02)
            assert weights.mean() == pytest.approx(1, abs=1e-3)
            assert weights.std() == pytest.approx(0.02, abs=1e-3)
            assert len(weights.unique()) > 0.9 * len(weights)
        else:
            assert (weights == 1).all()


@pytest.mark.parametrize(("grid", "size"), [((7, 7), (224, 224)), ((14, 14), (90, 333)), ((4, 9), (50, 41))])
def test_heat_is_enlarged_bicubically_and_flat_heat_stays_flat(grid, size):
    heat = RNG.random(grid).astype(np.float32)
    found = enlarged(torch.from_numpy(heat), *size).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, cv2.resize(heat, size[::-1], interpolation=cv2.INTER_CUBIC), atol=1e-4)
    for value in RNG.uniform(0, 1, 20).astype(np.float32):
        assert (enlarged(torch.full(grid, float(value)), *size).numpy() == value).all()
    assert (enlarged(torch.full(grid, 0.4).half(), *size).numpy() == np.float32(np.float16(0.4))).all()
