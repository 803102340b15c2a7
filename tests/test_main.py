import subprocess
import types

import pytest

from tests import __main__ as runner


@pytest.fixture
def commands(monkeypatch):
    """What the runner would start: (arguments, KERAS_BACKEND) pairs; a command with a name in `.failing` fails."""
    started = types.SimpleNamespace(calls=[], flags=[], failing=set())

    def run(command, cwd, env, **captured):
        backend = env.get("KERAS_BACKEND") if "pytest" in command else None
        started.flags.append((backend, "tests/examples" in command, env.get("XLA_FLAGS", "")))
        started.calls.append((command[2:], backend))
        return types.SimpleNamespace(returncode=int(bool({backend, *command} & started.failing)), stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    return started


def test_ruff_and_every_backend_are_run(commands, capsys):
    assert runner.main([]) == 0
    ruff = [(["ruff", "check", "."], None), (["ruff", "format", "--check", "."], None)]
    assert commands.calls[:2] == ruff
    assert sorted(backend for _, backend in commands.calls[2:]) == ["jax"] * 5 + ["tensorflow"] * 5 + ["torch"]
    assert all(arguments == ["pytest"] for arguments, backend in commands.calls[2:] if backend == "torch")
    assert capsys.readouterr().out.count("passed") == 13


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_parts_of_a_backend_are_the_whole(commands, backend):
    assert runner.main([backend]) == 0
    parts = [arguments[1:] for arguments, _ in commands.calls[2:]]
    (rest,) = [part for part in parts if part[0].startswith("--ignore")]
    folders = [folder for part in parts if part is not rest for folder in part]
    assert len(parts) == 5 and sorted(rest) == sorted(f"--ignore={folder}" for folder in folders)
    assert all((runner.ROOT / folder).is_dir() for folder in folders)


def test_backends_and_what_pytest_gets_can_be_chosen(commands):
    assert runner.main(["torch", "--", "tests/layers", "-x"]) == 0
    assert commands.calls[2:] == [(["pytest", "tests/layers", "-x"], "torch")]


@pytest.mark.parametrize("failing", ["check", "format", "jax", "tensorflow", "torch"])
def test_one_failure_fails_the_whole_and_the_rest_still_runs(commands, capsys, failing):
    commands.failing.add(failing)
    assert runner.main([]) == 1
    assert len(commands.calls) == 13
    assert capsys.readouterr().out.count("failed (exit status 1)") == (5 if failing in ("jax", "tensorflow") else 1)


def test_xla_makes_code_quickly_but_for_the_examples_on_tensorflow(commands, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--of_the_caller")
    assert runner.main(["jax", "tensorflow"]) == 0
    for backend, is_examples, flags in commands.flags[2:]:
        assert flags.startswith("--of_the_caller")
        assert ("fusion_emitters" in flags) == (backend == "jax" or not is_examples)
        assert ("optimization_level" in flags) == (backend == "tensorflow" and not is_examples)


def test_an_unknown_backend_is_refused(commands):
    with pytest.raises(SystemExit, match="Unknown backend: mxnet"):
        runner.main(["mxnet"])
    assert commands.calls == []
