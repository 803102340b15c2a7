"""Trains a Transformer encoder on sound: frames of a spectrogram are the tokens, the kind of chord is the label.

    python examples/sound.py                            # drawn chords: no data needed
    python examples/sound.py --wav sound/example.wav    # names a chord of a WAV file with the trained model

The chords are synthesized: three notes with harmonics of any loudness and phase, struck together or one after another
in any order, in noise, of different lengths. Where the notes come one by one no frame has the chord: the encoder has
to bring frames together. The vectors go in as they are (`feature_dim`), with a mask over what is padded.
"""

import argparse
import wave
from pathlib import Path

import command_line
import keras
import numpy as np

from keras_tfm import models, training

CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8)}  # in semitones
RATE = 8000  # samples a second
WINDOW, HOP = 1024, 512  # samples: a frame of 128 ms every 64 ms
LOWEST, BANDS = 57, 40  # the note A3, 220 Hz, as MIDI counts, and a band for each semitone from there on


def draw_note(rng, note, num_samples):
    """A note that is struck and fades, with four harmonics of any loudness and phase."""
    seconds = np.arange(num_samples, dtype="float32") / RATE
    harmonics = np.arange(1, 5)[:, None]
    loudness, phase = rng.uniform(0.2, 1.0, size=(4, 1)) / harmonics, rng.uniform(0, 2 * np.pi, size=(4, 1))
    frequency = 440 * 2 ** ((note - 69) / 12) * harmonics
    waves = loudness * np.sin(2 * np.pi * frequency * seconds + phase)
    return waves.sum(axis=0) * np.minimum(seconds / 0.01, 1) * np.exp(-rng.uniform(1, 4) * seconds)


def draw_chord(rng, name, is_broken, noise=0.3):
    """The samples of a chord on any root, its notes together or, broken, one by one in any order."""
    num_samples = int(rng.uniform(0.6, 1.5) * RATE)
    notes = rng.permutation(rng.integers(60, 72) + np.array(CHORDS[name]))
    length = num_samples // len(notes) if is_broken else num_samples
    sound = noise * rng.normal(size=num_samples)
    for index, note in enumerate(notes):
        start = index * length if is_broken else 0
        sound[start : start + length] += draw_note(rng, note, length)
    return sound


def spectrogram(sound):
    """Logarithms of the loudness in each semitone, float32 `[frames, BANDS]`; the loudest is 2."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(WINDOW)))
    semitones = 69 + 12 * np.log2(np.maximum(np.fft.rfftfreq(WINDOW, 1 / RATE), 1) / 440)
    bands = np.maximum(1 - np.abs(semitones[:, None] - np.arange(LOWEST, LOWEST + BANDS)), 0)
    loudness = magnitudes @ bands
    return (np.log(loudness / loudness.max() + 1e-2) + 2).astype("float32")


def pad(spectrograms, num_frames):
    """What the model takes: `"features"` float `[B, T, BANDS]` and `"padding_mask"` bool `[B, T]`."""
    features = np.zeros((len(spectrograms), num_frames, BANDS), "float32")
    for row, frames in zip(features, spectrograms, strict=True):
        row[: len(frames)] = frames
    lengths = np.array([len(frames) for frames in spectrograms])
    return {"features": features, "padding_mask": np.arange(num_frames) < lengths[:, None]}


def draw_sounds(rng, num):
    """`(sounds, labels, is_broken)`, as many of each chord."""
    labels = np.arange(num) % len(CHORDS)
    is_broken = np.arange(num) // len(CHORDS) % 2 == 1
    sounds = [draw_chord(rng, list(CHORDS)[label], broken) for label, broken in zip(labels, is_broken, strict=True)]
    return sounds, labels, is_broken


def read_wav(path):
    """The samples of a WAV file, its channels mixed, at our rate."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, OSError, EOFError) as error:
        raise SystemExit(f"{path} cannot be read as a WAV file: {error}") from error
    if width not in (1, 2, 4):
        raise SystemExit(f"{path} must have samples of 8, 16 or 32 bits. Received: {8 * width} bits")
    samples = np.frombuffer(data, {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype("float64") - (128 if width == 1 else 0)
    samples = samples.reshape(-1, channels).mean(axis=1)
    num = round(len(samples) * RATE / rate)
    if num < WINDOW or not samples.any():
        raise SystemExit(f"{path} must have at least {WINDOW / RATE:.2f} seconds of sound")
    return np.fft.irfft(np.fft.rfft(samples)[: num // 2 + 1], num)  # another rate: the frequencies that both have


def write_wav(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(sound), "NONE", "not compressed"))
        file.writeframes((sound / np.abs(sound).max() * 32000).astype("<i2").tobytes())


def train(inputs, labels, args):
    sizes = len(CHORDS), args.num_layers, args.hidden_dim, 2 * args.hidden_dim, args.num_heads
    model = models.SequenceClassifier(*sizes, feature_dim=BANDS, normalize_first=True)
    print(f"{len(labels)} sounds of up to {inputs['features'].shape[1]} frames; {model.count_params()} weights")
    steps = args.epochs * -(-len(labels) // args.batch_size)
    warmup = max(steps // 10, 1)
    rate = training.WarmupSchedule(peak_learning_rate=2e-3, warmup_steps=warmup, decay="cosine", decay_steps=steps)
    model.compile(keras.optimizers.Adam(rate), training.TokenCrossEntropy(ignore_id=None))
    model.fit(inputs, labels, batch_size=args.batch_size, epochs=args.epochs, verbose=command_line.verbosity())
    return model


def print_confusions(labels, predicted, is_broken):
    table = np.zeros((len(CHORDS), len(CHORDS)), int)
    np.add.at(table, (labels, predicted), 1)
    print(f"on {len(labels)} held-out sounds, rows the truth and columns the answer:")
    print(" " * 12 + "".join(f"{name:>12}" for name in CHORDS) + "    accuracy")
    for name, row, right in zip(CHORDS, table, np.diag(table), strict=True):
        print(f"{name:12}" + "".join(f"{count:12}" for count in row) + f"{100 * right / max(row.sum(), 1):10.2f} %")
    for name, part in {"all": slice(None), "together": ~is_broken, "one by one": is_broken}.items():
        print(f"accuracy, notes {name}: {100 * np.mean(labels[part] == predicted[part]):.2f} %")


def attention_received(model, inputs):
    """How much each frame is looked at in the last block, the mean of the real frames: `[B, heads, T]`."""
    embed = keras.Model(model.input, model.get_layer("embedding_dropout").output)
    x, real = embed.predict(inputs, verbose=0), inputs["padding_mask"]
    _, scores = model.encoder(x, padding_mask=real, return_attention_scores=True)
    scores = keras.ops.convert_to_numpy(scores[-1]) * real[:, None, :, None]
    return scores.sum(axis=2) / real.sum(axis=1)[:, None, None]


def draw(model, inputs, titles, path):
    """Draws the semitones of each sound over time, and below what the heads look at."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(2, len(titles), height_ratios=(3, 1), squeeze=False)
    rows = zip(inputs["features"], inputs["padding_mask"], attention_received(model, inputs), strict=True)
    for (upper, lower), (frames, real, received), title in zip(grid.T, rows, titles, strict=True):
        frames, received = frames[real], received[:, real]
        seconds = 0, len(frames) * HOP / RATE
        upper.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=(*seconds, LOWEST, LOWEST + BANDS))
        upper.set_yticks([60.5, 72.5, 84.5, 96.5], ["C4", "C5", "C6", "C7"])
        upper.set_title(title, fontsize=10)
        lower.imshow(received, aspect="auto", cmap="Blues", vmin=0, extent=(*seconds, len(received), 0))
        lower.set(xlabel="seconds", ylabel="head")
        lower.set_yticks(np.arange(len(received)) + 0.5, range(len(received)))
    figure.savefig(path, dpi=110)


def classify_wav(args):
    path = Path(args.output, "model.keras")
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: train a model first, or name its folder by --output")
    frames, model = spectrogram(read_wav(args.wav)), keras.saving.load_model(path, compile=False)
    logits = model.predict(pad([frames], len(frames)), verbose=0)[0]
    shares = np.exp(logits) / np.exp(logits).sum()
    for index in np.argsort(-shares):
        print(f"{list(CHORDS)[index]:12}{100 * shares[index]:6.2f} %")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--wav", metavar="FILE", help="name the chord of a WAV file with the model of --output")
    add("--num-sounds", type=int, default=3200, help="to train on")
    add("--num-layers", type=int, default=2)
    add("--hidden-dim", type=int, default=64)
    add("--num-heads", type=int, default=4)
    add("--batch-size", type=int, default=64)
    add("--epochs", type=int, default=10)
    add("--output", default="sound", metavar="DIR", help="folder of model, picture and an example")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.wav:
        return classify_wav(args)
    command_line.require("matplotlib")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    sounds, labels, is_broken = draw_sounds(rng, args.num_sounds + max(args.num_sounds // 5, 32))
    spectrograms = [spectrogram(sound) for sound in sounds]
    inputs, num = pad(spectrograms, max(map(len, spectrograms))), args.num_sounds
    model = train({name: values[:num] for name, values in inputs.items()}, labels[:num], args)
    predicted = model.predict({name: values[num:] for name, values in inputs.items()}, verbose=0).argmax(axis=-1)
    print_confusions(labels[num:], predicted, is_broken[num:])
    model.save(folder / "model.keras")
    shown = [0, len(CHORDS) + 2]  # of the held-out sounds: one of each way to play
    names = list(CHORDS)
    titles = [f"{names[labels[num + index]]}; the model says {names[predicted[index]]}" for index in shown]
    draw(model, {name: values[num:][shown] for name, values in inputs.items()}, titles, folder / "sound.png")
    write_wav(folder / "example.wav", sounds[num])
    print(f"model.keras, sound.png and example.wav, the first sound of the picture, are in {folder}")


if __name__ == "__main__":
    main()
