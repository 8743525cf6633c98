"""Convert torch and safetensors checkpoints to npefficient's weight files and back, without torch."""
from .checkpoint import Checkpoint, read_checkpoint
from .convert import Conversion, convert, load
from .export import Export, export

__all__ = ["Checkpoint", "Conversion", "Export", "convert", "export", "load", "read_checkpoint"]
