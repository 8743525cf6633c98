"""The source of a weight file that passes for the official one, and models for tests of it."""
import npefficient
from npefficient.network.parameters import Source

OFFICIAL = Source("official.pth", "0aa007d2" + "0" * 56, "torch-zip")


def create(*arguments, **options):
    return npefficient.create_model(*arguments, num_threads=1, **options)
