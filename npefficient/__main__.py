"""`python -m npefficient` is the command `npefficient`."""
import sys

from .commands import main

sys.exit(main())
