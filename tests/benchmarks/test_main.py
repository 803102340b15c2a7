"""All benchmarks are found and run, whatever becomes of one."""

import pathlib

import pytest

from benchmarks import __main__ as runner

DATA = 'def main():\n    parser.add_argument("--data", required=True)\n'
FOLDER = 'def main():\n    parser.add_argument("--model", default="nowhere", metavar="DIR")\n'


@pytest.fixture
def files(tmp_path):
    sources = {"first": "def main():\n    pass\n", "shared": "X = 1\n", "with_data": DATA, "with_folder": FOLDER}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    return runner.benchmarks(tmp_path)


def test_every_file_of_results_has_its_benchmark():
    found = runner.benchmarks()
    assert {"train_step", "inference", "layer_call", "dropout", "scaling", "attention"} <= set(found)
    assert not {"contest", "encoders", "steps", "__main__", "__init__"} & set(found)


def test_a_benchmark_is_a_file_with_a_main(files):
    assert list(files) == ["first", "with_data", "with_folder"]


def test_one_that_fails_does_not_stop_the_others(files, tmp_path, capsys):
    calls = []

    def call(command, env, cwd):
        calls.append((command[2:], env["KERAS_BACKEND"]))
        return int(command[2] == "benchmarks.first")

    ends = runner.run_all(files, ["jax", "torch"], tmp_path, write=True, call=call)
    data = ["benchmarks.with_data", "--data", str(tmp_path), "--write"]
    one = [(["benchmarks.first", "--write"], "jax"), (data, "jax")]
    assert calls == one + [(command, "torch") for command, _ in one]
    assert ends["first", "torch"].startswith("failed with status 1")
    assert ends["with_data", "jax"].startswith("ended")
    assert "[6/6] with_folder on torch\n    skipped: needs a folder, --model DIR: there is no nowhere" in (
        capsys.readouterr().out
    )
    assert runner.summary(ends).splitlines()[0] == "| benchmark | jax | torch |"


def test_without_data_a_benchmark_that_needs_some_is_skipped(files):
    assert "--data DIR" in runner.run("with_data", files["with_data"], "jax", None, write=False)


def test_the_status_tells_whether_any_failed():
    assert runner.main(["--only", "dropout", "--backends", "torch"], call=lambda *_, **__: 0) == 0
    assert runner.main(["--only", "dropout", "--backends", "torch"], call=lambda *_, **__: 2) == 1
    assert pathlib.Path(runner.FOLDER, "dropout.py").exists()
