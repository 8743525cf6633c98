"""`python -m weights_convert` is `npefficient convert`."""
import sys

from npefficient.commands import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
