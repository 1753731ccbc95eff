"""The log-mel spectrogram, against numbers of the reference and against its plain definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from speech.endpoint import completeness, features
from speech.features import log_mel

if TYPE_CHECKING:
    from speech.interfaces import Audio

POINTS = ((0, 0), (5, 400), (10, 700), (20, 790), (40, 799), (79, 650))
# pipecat-ai 1.14.0, compute_whisper_log_mel_features, of chirp(n)'s last 8 s padded in front:
# the values at POINTS, then the mean.
REFERENCE = {
    24_000: (-0.09791, -0.09791, 1.21615, -0.07643, 0.37431, -0.03292, -0.06023),
    128_000: (1.37385, -0.26532, -0.26532, -0.26532, -0.19178, -0.26532, -0.15671),
    150_000: (0.75851, -0.27861, -0.27861, -0.27861, -0.1111, -0.27861, -0.19208),
}


def chirp(samples: int) -> Audio:
    at = np.arange(samples) / 16_000
    sound = np.sin(2 * np.pi * (200 + 300 * at) * at) * (0.6 + 0.4 * np.sin(7 * at))
    return (0.3 * sound).astype(np.float32)


@pytest.mark.parametrize("samples", REFERENCE)
def test_smart_turn_input_matches_the_reference(samples: int) -> None:
    made = features(chirp(samples))
    assert made.shape == (80, 800)
    assert made.dtype == np.float32
    found = [*(made[point] for point in POINTS), made.mean()]
    np.testing.assert_allclose(found, REFERENCE[samples], atol=2e-5)


def test_short_audio_stands_at_the_end() -> None:
    made = features(chirp(8_000))
    assert np.ptp(made[:, :740]) == 0
    assert made[:, 750:].max() > made[0, 0] + 1


def test_log_mel_peaks_where_the_tone_is() -> None:
    at = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    # Slaney's scale is linear below 1 kHz: 200/3 Hz a mel, 45.2456 mel over 81 steps.
    assert log_mel(tone)[:, 50].argmax() == round(440 * 3 / 200 / (45.245_64 / 81)) - 1


@pytest.mark.parametrize("samples", [400, 4_801, 16_000])
def test_log_mel_has_a_frame_every_ten_ms(samples: int) -> None:
    assert log_mel(chirp(samples)).shape == (80, samples // 160)


def test_the_readout_has_a_weight_for_each_value_of_the_layer() -> None:
    chances = {completeness(row) for row in np.eye(256, dtype=np.float32)}
    assert len(chances) > 200
    assert all(0 < chance < 1 for chance in chances)
    with pytest.raises(ValueError, match="255"):
        completeness(np.zeros(255, np.float32))
