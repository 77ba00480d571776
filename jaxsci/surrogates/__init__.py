"""Probabilistic surrogates: everything here maps inputs to a Gaussian over a field."""

from ._protocol import Surrogate as Surrogate
from ._protocol import Task as Task
