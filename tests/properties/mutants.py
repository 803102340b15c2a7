"""Breaks the laws on purpose, one at a time, and says whose test notices: `python -m tests.properties.mutants`.

Each mutant is a copy of the package with one expression changed. Its law's tests must fail on it. The results go to
docs/mutants.md.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutants.md"
MASKS, REFERENCE, WINDOWS = "ops/masks.py", "ops/reference_attention.py", "ops/sliding_window.py"
DENSE, LAYER, ATTENTION = "ops/dense_attention.py", "layers/multi_head_attention.py", "ops/attention.py"
SEGMENTS, PACKED = "backend/torch_segments.py", "layers/real_tokens.py"

# (what is broken, file, text, what takes its place, file of tests that must fail)
MUTANTS = [
    ("causal, off by one", MASKS, "past = queries >= keys", "past = queries >= keys - 1",
     "past_does_not_see_the_future"),
    ("causal, strictly", MASKS, "past = queries >= keys", "past = queries > keys", "layer_equals_reference"),
    ("causal, upside down", MASKS, "past = queries >= keys", "past = queries <= keys", "past_does_not_see_the_future"),
    ("causality forgotten under a window", MASKS, "if self.is_causal:\n",
     "if self.is_causal and self.window is None:\n",
     "past_does_not_see_the_future"),
    ("the prefix one too long", MASKS, "keys < prefix)", "keys <= prefix)", "past_does_not_see_the_future"),
    ("the window one too wide", MASKS, "< self.window)", "<= self.window)", "layer_equals_reference"),
    ("padding on the queries' axis", MASKS, "yield self.key_padding[:, None, None, :]",
     "yield ops.swapaxes(self.key_padding[:, None, None, :], -1, -2)", "padding_does_not_matter"),
    ("padding inverted", MASKS, "yield self.key_padding[:, None, None, :]",
     "yield ops.logical_not(self.key_padding[:, None, None, :])", "padding_does_not_matter"),
    ("segments ignored", MASKS, "if self.segments is not None:\n", "if False:\n", "packed_equals_separate"),
    ("the offset of a cache forgotten", MASKS, " + ops.cast(self.query_offset, \"int32\")", "", "cached_equals_full"),
    ("ingredients joined by or", MASKS, "ops.logical_and(result, mask)", "ops.logical_or(result, mask)",
     "kernels_equal_reference"),
    ("explicit positions ignored", MASKS, "queries, keys = self.query_positions, self.key_positions",
     "queries, keys = None, None", "past_does_not_see_the_future"),
    ("logits unscaled", REFERENCE, " * ops.cast(request.scale, request.query.dtype)", "", "kernels_equal_reference"),
    ("the bias after the softmax", REFERENCE, "    if bias is not None:\n        logits = logits + bias\n", "",
     "kernels_equal_reference"),
    ("the mask added, not applied", REFERENCE, 'ops.where(mask, logits, ops.cast(MASKED_LOGIT, "float32"))',
     'logits - 8.0 * ops.cast(ops.logical_not(mask), "float32")', "past_does_not_see_the_future"),
    ("the softmax over the queries", REFERENCE, "ops.softmax(logits, axis=-1)", "ops.softmax(logits, axis=-2)",
     "past_does_not_see_the_future"),
    ("heads transposed", REFERENCE, "(0, 2, 1, 3))), (0, 2, 1, 3))",
     "(0, 2, 1, 3)))[:, ::-1], (0, 2, 1, 3))", "kernels_equal_reference"),
    ("scores after dropout", REFERENCE, "return output, scores if", "return output, weights if",
     "scores_change_nothing"),
    ("the sink left out of the sum", REFERENCE, " + ops.exp(sink - largest))", ")", "layer_equals_reference"),
    ("mixing without its mask", REFERENCE, "return _visible(mixed, mask)", "return mixed", "layer_equals_reference"),
    ("soft cap not scaled back", REFERENCE, "request.logit_soft_cap * ops.tanh(logits / request.logit_soft_cap)",
     "ops.tanh(logits / request.logit_soft_cap)", "kernels_equal_reference"),
    ("key heads shared in another order", REFERENCE,
     "folded = ops.reshape(heads, (batch, num_shared, num_heads // num_shared * length, width))",
     "folded = ops.reshape(ops.reshape(heads, (batch, num_heads // num_shared, num_shared, length, width))"
     ".swapaxes(1, 2), (batch, num_shared, num_heads // num_shared * length, width))", "kernels_equal_reference"),
    ("empty rows left as they are", ATTENTION, "    rows = request.live_rows\n", "    rows = None\n",
     "empty_rows_are_zero"),
    ("unseen keys left in", ATTENTION, "    if keys is not None:\n", "    if False:\n", "adversarial_padding"),
    ("padded queries left in", ATTENTION, "    if rows is not None:\n        query", "    if False:\n        query",
     "adversarial_padding"),
    ("keys not rotated", LAYER, "self._place(self._axes.fold(self._key_dense(key)), self.key_norm, places.of_new_keys)",
     "self._axes.fold(self._key_dense(key))", "layer_equals_reference"),
    ("cached keys rotated from 0", "layers/token_positions.py", "query_positions, start, slots)",
     "query_positions, 0, slots)",
     "cached_equals_full"),
    ("the implicit mask of values ignored", LAYER, '("value_mask", value_mask), ', "", "padding_does_not_matter"),
    ("query padding ignored", LAYER, "query_padding=self._axes.fold_padding(query_padding, query),",
     "query_padding=None,", "no_mask_is_lost"),
    ("the cache written one too far", "ops/kv_cache.py", "write_slice(leaf, new, 1, index)",
     "write_slice(leaf, new, 1, index + 1)", "cached_equals_full"),
    ("a gate on the wrong input", LAYER, "self._gate_dense(query)", "self._gate_dense(ops.flip(query, 1))",
     "past_does_not_see_the_future"),
    ("windows that meet one block twice", WINDOWS, "blocks[:, start : start + self.num_blocks]",
     "blocks[:, : self.num_blocks]", "../ops/test_sliding_window"),
    ("the slope of a row forgotten", "ops/held_scores.py", "(slopes - common)", "slopes", "kernels_equal_reference"),
    ("padding projected as it is", LAYER, "key, value = new_tokens_without_padding(key, value, padding",
     "_ = new_tokens_without_padding(key, value, padding", "adversarial_padding"),
    ("the gradient of a cap forgotten", DENSE, "slopes if capped is None else slopes", "slopes if True else slopes",
     "kernels_equal_reference"),
    ("blocks that see one key less", "ops/query_panels.py", "last = min(last, farthest + 1)",
     "last = min(last, farthest)", "kernels_equal_reference"),
    ("the encoder's implicit mask dropped", "layers/transformer_encoder.py",
     "implicit_mask = all_of([mask, inputs_mask])", "implicit_mask = None", "padding_does_not_matter"),
    ("parts of scores drawn alike", "backend/torch_attention.py", "draw_words_at(part.shape, seeds, part.place)",
     "draw_words_at(part.shape, seeds)", "../backend/test_torch_score_draws"),
    ("a segment that meets the keys of another", SEGMENTS, "*keys[name][0])", "*next(iter(keys.values()))[0])",
     "../backend/test_torch_segments"),
    ("padding left in segments", SEGMENTS, " | (real[:, 1:] != real[:, :-1])", "", "../backend/test_torch_segments"),
    ("later parts of a segment that see its first keys alone", SEGMENTS, ".tril(first)", ".tril()",
     "../backend/test_torch_segments"),
    ("packed tokens counted through the batch", PACKED, "ops.mod(self.places, self.length)", "self.places",
     "../layers/test_skip_padding"),
    ("packed rows that see each other", PACKED, "ops.floor_divide(self.places, self.length)", "0 * self.places",
     "../layers/test_skip_padding"),
    ("skipped padding not zeroed", "layers/transformer_block.py", "backend.zeroed(x, mask[..., None]) if", "x if",
     "../layers/test_skip_padding"),
]  # fmt: skip


def run(mutant):
    """`(name, caught, seconds, what failed)` of one mutant, on the backend of `KERAS_BACKEND`."""
    name, path, text, change, law = mutant
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for part in ("keras_tfm", "tests"):
            shutil.copytree(ROOT / part, copy / part)
        for part in ("conftest.py", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / part, copy / part)
        file = copy / "keras_tfm" / path
        source = file.read_text(encoding="utf-8")
        if text not in source:
            raise ValueError(f"The mutant {name!r} changes a text that is not in {path}.")
        file.write_text(source.replace(text, change), encoding="utf-8")
        target = f"{law}.py" if law.startswith("..") else f"test_{law}.py"
        command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/properties/{target}"]
        result = subprocess.run([sys.executable, *command], cwd=copy, capture_output=True, text=True, env=os.environ)
    failed = [line.split("::")[1].split(" - ")[0] for line in result.stdout.splitlines() if line.startswith("FAILED")]
    return name, path, law.split("test_")[-1], bool(failed), failed[0] if failed else result.stdout[-300:]


def main():
    names = set(sys.argv[1:])
    chosen = [mutant for mutant in MUTANTS if not names or mutant[0] in names]
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        rows = []
        for row in pool.map(run, chosen):
            print(f"{'caught ' if row[3] else 'MISSED '} {row[0]}: {row[4]}", flush=True)
            rows.append(row)
    if not names:
        PAGE.write_text(_page(rows), encoding="utf-8")
    sys.exit(int(not all(row[3] for row in rows)))


def _page(rows):
    import keras

    caught = sum(row[3] for row in rows)
    lines = [
        "# The laws broken on purpose",
        "",
        "Each line is a copy of the package with one expression changed, and the test that noticed. A law whose test",
        "cannot fail proves nothing. Made by `python -m tests.properties.mutants`.",
        "",
        f"{caught} of {len(rows)} caught, on {keras.backend.backend()}, Keras {keras.__version__}.",
        "",
        "| what is broken | in | caught by |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | `{path}` | {f'`{law}`: `{test}`' if is_caught else '**missed**'} |"
        for name, path, law, is_caught, test in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
