"""Streaming: tokens and text of a model as they come."""

import os.path

import numpy as np
from keras import ops, tree

from keras_tfm import generation
from keras_tfm.generation import get_strategy
from keras_tfm.generation.step_protocol import check_ids, check_integer

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class Streams:
    """Mixin of models that decode: the tokens of `generate` one step after the other."""

    def stream(
        self,
        prompts,
        *,
        max_length,
        strategy="greedy",
        end_id=None,
        pad_id=0,
        rules=(),
        padding_mask=None,
        cache=None,
        source=(),
        seed=0,
        **settings,
    ):
        """Continues prompts as `generate` does, and yields the tokens of each step as they come.

        Each step is a compiled program. It is compiled once for each batch size, bucket of prompt lengths and set of
        settings, whichever stream comes first.

        Args:
            strategy: `"greedy"`, `"sampling"` or `"mirostat"`, or such a `Strategy`. Beams are refused: their past
                changes.
            prompts, max_length, end_id, pad_id, rules, padding_mask, cache, source, seed, **settings: as `generate`
                has them.

        Returns:
            An iterator of numpy int32 `[B]`: the columns of the sequences of `generate`, `pad_id` in rows that have
            ended. It stops when all have.

        Raises:
            ValueError: at once, the strategy is none that only appends; what `generate` refuses.

        Example:

        >>> from keras_tfm.models import CausalLM
        >>> model = CausalLM(20, num_layers=1, hidden_dim=16, intermediate_dim=32, num_heads=2, sequence_length=32)
        >>> [tokens.shape for tokens in model.stream([[5, 6, 7], [8]], max_length=3)]
        [(2,), (2,), (2,)]
        """
        prompts = self._align_prompts(prompts, padding_mask, max_length)
        width = prompts.tokens.shape[1]
        options = dict(max_length=max_length, end_id=self._ends(end_id), pad_id=pad_id, rules=tuple(rules))
        strategy = get_strategy(strategy, **settings)

        def make(compiled):
            read = compiled(lambda *inputs: self._read_prompts(*inputs, max_length, cache))
            step = self._step(width, max_length)
            return read, generation.StreamedSearch(strategy, step, compiled=compiled, **options)

        read, streamed = self._kept(("stream", width, strategy, *options.values(), cache), make)
        state = read(*tree.map_structure(ops.convert_to_tensor, (prompts.tokens, prompts.starts, source)))
        before = np.where(np.arange(width - 1) < prompts.starts[:, None], -1, prompts.tokens[:, :-1])
        return streamed(state, prompts.tokens[:, -1], prompt=before, seed=np.int32(seed))


class TextStreamer:
    """Turns the ids of one text, as they come, into pieces of text that never change.

    Tokens of bytes may end within a character: what does not end with a whole one waits. All pieces together are the
    text of all ids.

    Args:
        decode: function from a list of ids to their text.
        hold_back: text is given out once it has stayed the same while so many more ids came, for tokenizers whose text
            depends on what follows, such as those that put "do n't" together. Default 0.

    Raises:
        ValueError: `hold_back` is no integer of at least 0; from `push` and `finish`, if text that was already given
            out changes.

    Example:

    >>> streamer = TextStreamer(lambda ids: bytes(ids).decode(errors="replace"))
    >>> [streamer.push(byte) for byte in "añb".encode()], streamer.finish()
    (['a', '', 'ñ', 'b'], '')
    """

    def __init__(self, decode, hold_back=0):
        self._decode, self._hold_back = decode, check_integer("hold_back", hold_back, minimum=0)
        self._ids, self._given = [], ""

    def push(self, token):
        """The text that is certain with one more id; perhaps none."""
        self._ids.append(int(token))
        text = self._decode(list(self._ids))
        if self._hold_back:
            earlier = self._ids[: -self._hold_back]
            text = os.path.commonprefix([text, self._decode(earlier) if earlier else ""])
        text = text.rstrip(_BROKEN)
        return "" if self._given.startswith(text) else self._give(text)

    def finish(self):
        """The text that was waiting."""
        return self._give(self._decode(list(self._ids)) if self._ids else "")

    def _give(self, text):
        if not text.startswith(self._given):
            raise ValueError(
                "Text that was given out changed with later ids; a larger `hold_back` lets text wait for those. "
                f"Received: hold_back={self._hold_back}, {self._given[-20:]!r} given out, now {text[-20:]!r}"
            )
        piece, self._given = text[len(self._given) :], text
        return piece


def stream_text(tokens, decode, *, end_id=None, hold_back=0):
    """Turns the tokens of a stream into text as they come.

    Args:
        tokens: iterable of int `[B]`, such as `model.stream(...)`.
        decode: function from a list of ids to their text, such as that of a tokenizer.
        end_id: id of END, or several; neither it nor what follows belongs to a row's text. `None` for none.
        hold_back: see `TextStreamer`.

    Yields:
        list of B strings, the pieces that a step makes certain; at the end once more, if text was still waiting. The
        pieces of a row together are the text of its ids.

    Raises:
        ValueError: bad ids; text that was given out changes, see `TextStreamer`.

    Example:

    >>> steps = [[97, 99], [98, 2], [2, 0]]
    >>> list(stream_text(steps, lambda ids: bytes(ids).decode(), end_id=2))
    [['a', 'c'], ['b', ''], ['', '']]
    """
    ends, streamers, has_ended = check_ids("end_id", end_id), None, None
    for step in tokens:
        if streamers is None:
            streamers, has_ended = [TextStreamer(decode, hold_back) for _ in step], [False] * len(step)
        pieces = []
        for row, token in enumerate(step):
            was_ended, has_ended[row] = has_ended[row], has_ended[row] or int(token) in ends
            piece = "" if was_ended else streamers[row].finish() if has_ended[row] else streamers[row].push(token)
            pieces.append(piece)
        yield pieces
    rest = [streamer.finish() for streamer in streamers or ()]
    if any(rest):
        yield rest
