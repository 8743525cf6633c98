"""What a network saw in a photo: its preprocessing, the evidence for each class, occlusion, the work of each block."""
from .blocks import BlockView
from .evidence import ClassMap, Difference
from .occlusion import Agreement
from .result import Explanation, explain
from .sums import ChannelSums
from .times import Times

__all__ = ["Agreement", "BlockView", "ChannelSums", "ClassMap", "Difference", "Explanation", "Times", "explain"]
