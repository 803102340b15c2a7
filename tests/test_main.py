import subprocess
import types

import pytest

from tests import __main__ as runner


@pytest.fixture
def commands(monkeypatch):
    """What the runner would start: (arguments, KERAS_BACKEND) pairs; a command with a name in `.failing` fails."""
    started = types.SimpleNamespace(calls=[], failing=set())

    def run(command, cwd, env, **captured):
        backend = env.get("KERAS_BACKEND") if "pytest" in command else None
        started.calls.append((command[2:], backend))
        return types.SimpleNamespace(returncode=int(bool({backend, *command} & started.failing)), stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    return started


def test_ruff_and_every_backend_are_run(commands, capsys):
    assert runner.main([]) == 0
    ruff = [(["ruff", "check", "."], None), (["ruff", "format", "--check", "."], None)]
    assert commands.calls[:2] == ruff
    assert sorted(backend for _, backend in commands.calls[2:]) == ["jax", "jax", "tensorflow", "torch"]
    assert all(arguments == ["pytest"] for arguments, backend in commands.calls[2:] if backend != "jax")
    assert capsys.readouterr().out.count("passed") == 6


def test_the_halves_of_jax_are_the_whole(commands):
    assert runner.main(["jax"]) == 0
    first, second = sorted((arguments[1:] for arguments, _ in commands.calls[2:]), key=lambda paths: paths[0][0] == "-")
    assert second == [f"--ignore={path}" for path in first]
    assert all((runner.ROOT / path).is_dir() for path in first)


def test_backends_and_what_pytest_gets_can_be_chosen(commands):
    assert runner.main(["torch", "--", "tests/layers", "-x"]) == 0
    assert commands.calls[2:] == [(["pytest", "tests/layers", "-x"], "torch")]


@pytest.mark.parametrize("failing", ["check", "format", "jax", "tensorflow", "torch"])
def test_one_failure_fails_the_whole_and_the_rest_still_runs(commands, capsys, failing):
    commands.failing.add(failing)
    assert runner.main([]) == 1
    assert len(commands.calls) == 6
    assert capsys.readouterr().out.count("failed (exit status 1)") == (2 if failing == "jax" else 1)


def test_an_unknown_backend_is_refused(commands):
    with pytest.raises(SystemExit, match="Unknown backend: mxnet"):
        runner.main(["mxnet"])
    assert commands.calls == []
