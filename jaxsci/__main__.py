"""`python -m jaxsci`: the command `jaxsci`, of this interpreter."""

import sys

from jaxsci.cli import main

sys.exit(main())
