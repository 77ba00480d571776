"""Trained models outside of this library: StableHLO through `jax.export`, and ONNX."""

from ._onnx import export_onnx as export_onnx
from ._onnx import input_names as input_names
from ._plain import moments as moments
from ._plain import plain as plain
from ._shapes import operator_arguments as operator_arguments
from ._stablehlo import export_stablehlo as export_stablehlo
from ._stablehlo import load_stablehlo as load_stablehlo
