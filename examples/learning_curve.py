"""A learning curve against processor time, which a busy machine does not distort as it distorts the time of day."""

import csv
import os
import time
from pathlib import Path

import keras


def processor_minutes(cores=2):
    """Processor time that this process has used on all threads, as minutes of a machine with so many cores."""
    return time.process_time() / 60 / cores


class LearningCurve(keras.callbacks.Callback):
    """Writes a row for each epoch, with scores every few epochs, and stops training when its time is used up.

    The minutes count everything since the process began, data preparation and scoring included; a resumed run goes on
    from the minutes of the row it resumes after.

    Args:
        path: CSV file to write; rows of epochs that a resumed run does again are replaced.
        score: function without arguments that returns a dict of name to number.
        every: scores after every so many epochs, and where training stops early; 0 for never.
        max_minutes: float or `None`, processor minutes after which training stops.
    """

    def __init__(self, path, score, every=1, max_minutes=None):
        super().__init__()
        self.path, self.score, self.every, self.max_minutes = Path(path), score, every, max_minutes
        self.rows, self.earlier = [], 0.0

    def on_epoch_begin(self, epoch, logs=None):
        if not self.rows and epoch and self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]
            self.earlier = float(self.rows[-1]["minutes"]) if self.rows else 0.0

    @property
    def minutes(self):
        """Processor minutes of this run and the ones it resumes."""
        return self.earlier + processor_minutes()

    def on_train_batch_end(self, batch, logs=None):
        if self.max_minutes is not None and self.minutes > self.max_minutes:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "updates": int(self.model.optimizer.iterations), "minutes": f"{self.minutes:.3f}"}
        row["loss"] = f"{(logs or {}).get('loss', float('nan')):.4f}"
        if self.every and (self.model.stop_training or (epoch + 1) % self.every == 0):
            row |= {name: f"{value:.2f}" for name, value in self.score().items()}
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        self.rows.append(row)
        self._write()

    def _write(self):
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.path)
