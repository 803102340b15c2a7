import wave

import numpy as np
import pytest
from sound import CHORDS, LOWEST, RATE, draw_chord, draw_note, main, pad, read_wav, spectrogram

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("note", [60, 69, 79])
def test_a_note_is_loudest_in_its_own_semitone(note):
    seconds = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * seconds)
    assert (spectrogram(tone).argmax(axis=1) == note - LOWEST).all()
    drawn = spectrogram(draw_note(np.random.default_rng(0), note, RATE))
    harmonics = [note - LOWEST + shift for shift in (0, 12, 19, 24)]
    assert set(drawn.argmax(axis=1)) <= set(harmonics)


def test_a_spectrogram_does_not_depend_on_the_loudness():
    sound = draw_chord(np.random.default_rng(0), "minor", is_broken=True)
    np.testing.assert_allclose(spectrogram(0.01 * sound), spectrogram(sound), atol=1e-5)


@pytest.mark.parametrize("name", CHORDS)
def test_a_chord_has_its_intervals(name):
    """Without noise the three lowest peaks are the three notes; what is above are harmonics."""
    for seed in range(5):
        sound = draw_chord(np.random.default_rng(seed), name, is_broken=False, noise=0.0)
        below, bands, above = (spectrogram(sound).mean(axis=0)[start : start + 38] for start in range(3))
        notes = np.flatnonzero((bands > below) & (bands > above) & (bands > bands.max() - 2.5))[:3]
        assert tuple(notes - notes[0]) == CHORDS[name]


def test_padding_is_masked():
    inputs = pad([np.ones((3, 40)), np.ones((5, 40))], 7)
    assert inputs["features"].sum(axis=(1, 2)).tolist() == [120, 200]
    assert inputs["padding_mask"].sum(axis=1).tolist() == [3, 5]


@pytest.mark.parametrize(("rate", "channels", "width"), [(22050, 2, 2), (8000, 1, 1), (11025, 1, 4)])
def test_wav_files_of_any_rate_are_read(tmp_path, rate, channels, width):
    tone = np.sin(2 * np.pi * 523.25 * np.arange(rate) / rate)  # C5, MIDI 72
    samples = np.repeat(tone[:, None], channels, axis=1) * 0.9 * 2 ** (8 * width - 1) + (128 if width == 1 else 0)
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    sound = read_wav(tmp_path / "tone.wav")
    assert len(sound) == RATE
    assert (spectrogram(sound).argmax(axis=1) == 72 - LOWEST).all()


def test_a_run_prints_the_confusions_and_its_model_names_a_file(tmp_path, capsys):
    main(
        ["--num-sounds", "64", "--num-layers", "1", "--hidden-dim", "8", "--num-heads", "2", "--epochs", "1"]
        + ["--output", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert "accuracy, notes one by one" in printed and "rows the truth" in printed
    assert (tmp_path / "sound.png").read_bytes().startswith(b"\x89PNG")
    main(["--wav", str(tmp_path / "example.wav"), "--output", str(tmp_path)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {name for name, *_ in rows} == set(CHORDS)
    assert sum(float(share) for _, share, _ in rows) == pytest.approx(100, abs=0.1)


def test_files_that_are_no_sound_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="model.keras does not exist"):
        main(["--wav", "x.wav", "--output", str(tmp_path)])
    path = tmp_path / "x.wav"
    path.write_text("no sound")
    with pytest.raises(SystemExit, match="x.wav cannot be read as a WAV file"):
        read_wav(path)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(100))
    with pytest.raises(SystemExit, match="must have at least 0.13 seconds of sound"):
        read_wav(path)
