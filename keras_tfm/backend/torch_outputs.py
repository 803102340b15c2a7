"""Outputs of a recorded body that become its inputs: each has its own memory, since the next step may write there."""

import torch


def separate_outputs(graph):
    """Copies, in a `torch.fx.Graph` of operators, outputs that lie in a constant, in a weight or in another output."""
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    seen, outputs = set(), []
    for node in output.args[0]:
        root = _root(node)
        if root.op == "get_attr" or root in seen:
            with graph.inserting_before(output):
                options = {"memory_format": torch.contiguous_format}
                node = graph.call_function(torch.ops.aten.clone.default, (node,), options)
        seen.add(root)
        outputs.append(node)
    output.args = (outputs,)


def _root(node):
    """The node whose memory `node` may lie in."""
    while node.op == "call_function" and may_be_view(node) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def may_be_view(node):
    """Whether the result of an operator may share the memory of its first input, as one in place does."""
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    return node.op == "call_function" and (not returns or any(each.alias_info is not None for each in returns))
