"""A model as one file, with what is needed to build it again and what it must agree with."""

from ._files import write_atomically as write_atomically
