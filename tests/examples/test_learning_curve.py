import csv
from types import SimpleNamespace

from learning_curve import LearningCurve


def run_epochs(path, epochs, every=0, max_minutes=None):
    curve = LearningCurve(path, lambda: {"bleu": 12.348}, every, max_minutes)
    curve.set_model(SimpleNamespace(stop_training=False, optimizer=SimpleNamespace(iterations=7)))
    for epoch in epochs:
        curve.on_epoch_begin(epoch)
        curve.on_train_batch_end(0)
        curve.on_epoch_end(epoch, {"loss": 1.5})
    return curve


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_come_every_few_epochs(tmp_path):
    run_epochs(tmp_path / "curve.csv", range(5), every=2)
    rows = read_rows(tmp_path / "curve.csv")
    assert [row["bleu"] for row in rows] == ["", "12.35", "", "12.35", ""]
    assert [(row["epoch"], row["updates"], row["loss"]) for row in rows][-1] == ("5", "7", "1.5000")
    minutes = [float(row["minutes"]) for row in rows]
    assert minutes == sorted(minutes) and minutes[0] > 0


def test_a_resumed_run_goes_on_from_the_row_before_its_first_epoch(tmp_path):
    run_epochs(tmp_path / "curve.csv", range(3))
    before = read_rows(tmp_path / "curve.csv")
    curve = run_epochs(tmp_path / "curve.csv", range(2, 4))
    rows = read_rows(tmp_path / "curve.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[:2] == before[:2] and curve.earlier == float(before[1]["minutes"])


def test_training_stops_and_is_scored_when_its_time_is_used_up(tmp_path):
    curve = run_epochs(tmp_path / "curve.csv", [0], every=9, max_minutes=0.0)
    assert curve.model.stop_training and read_rows(tmp_path / "curve.csv")[0]["bleu"]
    assert not run_epochs(tmp_path / "curve.csv", [0], max_minutes=1e6).model.stop_training
