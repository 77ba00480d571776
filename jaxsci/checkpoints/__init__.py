"""A model as one file, with what is needed to build it again and what it must agree with."""

from ._checkpoint import load_checkpoint as load_checkpoint
from ._checkpoint import read_checkpoint as read_checkpoint
from ._checkpoint import save_checkpoint as save_checkpoint
from ._files import read_file as read_file
from ._files import write_atomically as write_atomically
from ._files import write_file as write_file
from ._leaves import differences as differences
from ._leaves import restore as restore
from ._leaves import signature as signature
from ._leaves import without_keys as without_keys
