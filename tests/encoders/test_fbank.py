"""The log-mel filter bank against numbers that torchaudio's Kaldi port made."""

import json

import pytest
import torch
from safetensors.torch import load_file

from helpers import GOLDEN
from moca_avs.encoders.preprocessing import FLOOR, fbank, mel_bank


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "fbank.safetensors")


@pytest.fixture(scope="module")
def facts():
    return json.loads((GOLDEN / "fbank.json").read_text())


@pytest.mark.parametrize("name", ["noise_2s", "mix_2s", "click_2s", "noise_1p3s"])
def test_equals_kaldi(golden, facts, name):
    samples = golden[f"{name}.pcm_i16"].float() / 32768
    found = fbank(samples - samples.mean(), 128).T
    assert found.shape[1] == facts["waveforms"][name]["frames"]
    expected = golden[f"{name}.padded"][0, :, : found.shape[1]]
    apart = (found - expected).abs()
    assert apart.max() <= 2e-2
    assert apart[expected > -8].max() <= 1e-3
    assert apart.mean() <= 5e-4


def test_the_bank_equals_kaldi(golden, facts):
    bank = mel_bank(128)
    torch.testing.assert_close(bank.sum(0), golden["mel_bank_row_sums"], atol=1e-4, rtol=0)
    empty = (bank.sum(0) == 0).nonzero().flatten().tolist()
    assert empty == facts["empty_mel_filters"]
    # Where a triangle is wide enough to show its top, the top lies at its center.
    hertz = torch.arange(256) * 16000 / 512
    tops, centers = hertz[bank.argmax(0)], golden["mel_centres_hz"]
    assert ((tops - centers).abs()[20:] < 16000 / 512).all()


@pytest.mark.parametrize("samples", [1, 399, 400])
def test_less_than_a_frame_is_one_frame(samples):
    wave = torch.linspace(-0.5, 0.5, samples)
    found = fbank(wave, 112)
    assert found.shape == (1, 112)
    assert torch.equal(found, fbank(torch.cat([wave, torch.zeros(400 - samples)]), 112))


def test_silence_is_the_floor():
    assert torch.equal(fbank(torch.zeros(800), 128), torch.full((3, 128), FLOOR).log())


def test_a_tone_is_loudest_in_its_own_band():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    band = int(fbank(tone, 128).mean(0).argmax())
    hertz = torch.arange(256) * 16000 / 512
    held = hertz[mel_bank(128)[:, band] > 0]
    assert held.min() - 16 <= 1000 <= held.max() + 16
