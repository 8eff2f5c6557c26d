"""Shortcuts through the UNet, as edits of its graph when it is loaded: they need no files of their own.

- `give_deep` and `start_from_deep` make a full and a shallow pass of one graph (DeepCache, arXiv 2312.00858, with
  its branch at the outermost skip connection): what enters the decoder's last block changes little from step to
  step, so the shallow pass starts there.
- `thin_keys`: attention at the first level looks at the keys and values of every second row and column (ToDo,
  arXiv 2402.13573, section 3.2). Queries stay, so the picture keeps its resolution.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as opset

from catvton_ov.errors import BundleDamagedError
from catvton_ov.shortcuts import Keys

DEEP = "deep"  # the value that a full pass hands to shallow ones
_ON_THE_WAY = ("Transpose", "Reshape", "Add", "Multiply", "FakeQuantize", "Convert")


def thin_keys(model: ov.Model, keys: Keys) -> None:
    """Let the first level's attention see fewer keys and values; changes `model`, whose shapes must be static.

    Raises:
        BundleDamagedError: the graph is not that of a CatVTON UNet.
    """
    if keys == "all":
        return
    _, _, rows, columns = model.input("sample").shape
    index = opset.constant(_kept_tokens(rows, columns, keys), dtype=np.int64)
    axis = opset.constant(1, dtype=np.int64)
    changed = 0
    for attention in model.get_ops():
        if attention.get_type_name() != "ScaledDotProductAttention":
            continue
        if attention.input(1).get_shape()[-2] != rows * columns:
            continue
        for projection in {_projection(attention, port).get_friendly_name(): port for port in (1, 2)}.values():
            multiply = _projection(attention, projection)
            source = multiply.input_value(0)
            multiply.input(0).replace_source_output(opset.gather(source, index, axis).output(0))
            changed += 1
    if not changed:
        raise _foreign("it has no attention at its first level")
    model.validate_nodes_and_infer_types()


def give_deep(model: ov.Model) -> None:
    """Add the output "deep", (B, K, 2h, w): what enters the decoder's last block besides the skip connection."""
    value = _last_join(model).input_value(0)
    value.get_tensor().set_names({DEEP})
    model.add_results([opset.result(value)])


def start_from_deep(model: ov.Model) -> None:
    """Make "deep" an input; what led to it goes away. The skip connection is still computed from the sample."""
    join = _last_join(model)
    value = join.input_value(0)
    given = opset.parameter(value.get_partial_shape(), dtype=value.get_element_type(), name=DEEP)
    given.output(0).get_tensor().set_names({DEEP})
    join.input(0).replace_source_output(given.output(0))
    model.add_parameters([given])
    model.validate_nodes_and_infer_types()


def _kept_tokens(rows: int, columns: int, keys: Keys) -> npt.NDArray[np.int64]:
    """Token numbers, row by row; the upper half of the rows is the person's, the lower the garment's."""
    kept = np.zeros((rows, columns), dtype=bool)
    half = rows // 2
    kept[0:half:2, ::2] = True
    kept[half::2, ::2] = True
    if keys == "person-thinned":
        kept[half:] = True
    return np.flatnonzero(kept)


def _projection(attention: ov.Node, port: int) -> ov.Node:
    """The MatMul that makes keys (port 1) or values (port 2) of the hidden states."""
    node = attention.input_value(port).get_node()
    while node.get_type_name() in _ON_THE_WAY:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        raise _foreign(f"{attention.get_friendly_name()} has no projection of keys and values")
    return node


def _last_join(model: ov.Model) -> ov.Node:
    """Where the decoder's last block joins the skip connection that comes from the first convolution."""
    for node in reversed(model.get_ordered_ops()):
        if (
            node.get_type_name() == "Concat"
            and node.get_input_size() == 2
            and node.output(0).get_partial_shape().rank.get_length() == 4
            and node.get_attributes()["axis"] in (1, -3)
        ):
            return node
    raise _foreign("its decoder joins no skip connection")


def _foreign(why: str) -> BundleDamagedError:
    return BundleDamagedError(f"This UNet's graph allows no shortcut: {why}. Choose the preset reference.")
