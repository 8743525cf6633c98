"""The layout that the engine is compiled for on this processor, its constants, and other processors' layouts."""
from npefficient.kernels.layout import FLOAT32, Layout

LANES, VECTOR, UNROLL, PANEL, LARGEST = (FLOAT32.lanes, FLOAT32.vector, FLOAT32.unroll, FLOAT32.panel,
                                         FLOAT32.longest_tile)
vectors, panel_sizes, largest_tile = FLOAT32.vectors, FLOAT32.panel_sizes, FLOAT32.largest_tile

SSE, NEON, AVX2, AVX512 = Layout(4, 16), Layout(4, 32), Layout(8, 16), Layout(16, 32)

# LLVM's names of processors and features with so many lanes
PROCESSORS = {8: ("x86-64-v3", "+avx2,+fma"), 4: ("x86-64", "-avx")}
