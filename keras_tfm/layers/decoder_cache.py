"""DecoderCache: the caches of a whole decoder, one value for a decoding loop."""

from typing import Any, NamedTuple


class DecoderCache(NamedTuple):
    """The caches of a `TransformerDecoderStack`. Every leaf is batch-first.

    Args:
        self_attention: tuple of one `KVCache` for each block that is passed through.
        cross_attention: tuple of one `KVCache` for each; empty without cross attention.
    """

    self_attention: Any
    cross_attention: Any = ()
