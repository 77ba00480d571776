"""The deep operator network."""

from ._deeponet import DeepONet as DeepONet
