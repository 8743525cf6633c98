"""What a network saw in a photo: its preprocessing, the evidence for each class, the work of each block."""
from .blocks import BlockView
from .evidence import ClassMap
from .result import Explanation, explain
from .times import Times

__all__ = ["BlockView", "ClassMap", "Explanation", "Times", "explain"]
