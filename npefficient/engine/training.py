"""Forward and backward passes over batches, by compiled kernels (`training_chunks.py`).

Each convolution is one compiled step over all pictures. Between two steps, the moments of its strips become a batch
norm, here and in float64: these are a few numbers for each channel.

Every bit of the result is the same for any number of threads. It is also the same for vectors of any width: each
channel has a lane of its own, and neither strips nor parts depend on the number of lanes.
"""
from collections.abc import Collection, Mapping

import numpy as np

from ..kernels.layout import FLOAT, TRAINING, Layout
from ..kernels.memory import aligned
from ..kernels.packing import pack_weight, packed_size
from ..network.architecture import BN_EPS, Architecture, Conv, same_padding
from ..network.backward import global_pool_backward, new_running_statistics
from ..network.folding import bn_parameters
from ..network.parameters import TRACKED
from ..network.reference import global_pool
from . import training_steps as steps
from .engine import Sharing
from .training_layers import Layer, Maps, make_layers, panels

FORWARD = {"stem": steps.FORWARD_STEM, "depthwise": steps.FORWARD_DEPTHWISE, "pointwise": steps.FORWARD_POINTWISE}
BACKWARD = {"stem": steps.BACKWARD_STEM, "depthwise": steps.BACKWARD_DEPTHWISE,
            "pointwise": steps.BACKWARD_POINTWISE}


class TrainingEngine(Sharing):
    """One network for batches of one size, (N, H, W, C).

    Call `forward`, then `backward` once. Not for several threads at once, and not again after an exception within a
    pass, such as Ctrl-C: workers may still write to its memory.
    """

    def __init__(self, network: Architecture, shape: tuple[int, int, int, int], threads: int,
                 layout: Layout = TRAINING):
        """threads: how many take part in each step"""
        pictures, height, width, _ = shape
        super().__init__(layout)
        self.network, self.threads = network, threads
        self.layers = list(make_layers(network, layout, pictures, height, width))
        self.by_name = {layer.conv.name: layer for layer in self.layers}
        last = self.layers[-1].maps
        self.features = last.memory()  # what the last layer gives
        # The classifier's pixels are the pictures. Backward, its classes are input channels, of which the kernel takes
        # `unroll` at a time: there may be some more, with zeros.
        self.more_classes = -network.num_classes % layout.unroll
        self.pooled = Maps(layout, 1, 1, pictures, network.head_hidden_size)
        self.logits = Maps(layout, 1, 1, pictures, network.num_classes + self.more_classes)
        self.inputs, self.outputs = self.pooled.memory(), self.logits.memory()
        self.zeros = aligned(layout.panel * layout.vector)  # instead of biases
        self.free: list[np.ndarray] = []  # memory of gradients
        self.kept: dict[str, np.ndarray] = {}  # memory that each pass uses again, by what it is for

    # --- forward

    def forward(self, parameters: Mapping[str, np.ndarray], x: np.ndarray, masks: Mapping | None = None,
                train_batch_norm: bool = True, frozen_norms: Collection[str] = ()) -> np.ndarray:
        """(N, H, W, C), C-contiguous -> logits (N, num_classes), all float32.

        parameters: by timm's names, float32 or float16
        masks, train_batch_norm, frozen_norms: as for `network.training_network.TrainingNetwork`
        """
        self.parameters, self.x = parameters, x
        for layer in self.layers:
            layer.by_batch = train_batch_norm and layer.conv.bn not in frozen_norms
        self.masks: Mapping = masks or {}
        self.running: dict[str, np.ndarray] = {}  # statistics after this batch
        for block in self.network.blocks:
            if block.skip:
                self.by_name[block.convs[-1].name].factors[:] = np.ravel(self.masks.get(block.name, 1))
        for layer in self.layers:
            self._forward(layer)
        last = self.layers[-1]
        self._run(0, op=steps.ACTIVATE, chunks=last.maps.pictures, x_kind=steps.RELU6, y=self.features,
                  height=last.maps.height, width=last.maps.width, **last.as_source())
        pooled = global_pool(last.maps.read(self.features), self.network.global_pool)
        self.pooled.write(self.inputs, (pooled * self.masks.get("classifier", np.float32(1)))[None, None])
        weight = self._packed("classifier", "pointwise", self._classifier_weight())
        self._run(0, op=steps.FORWARD_POINTWISE, chunks=1, weight=weight, **self._classifier_fields())
        return self.logits.read(self.outputs)[0, 0, :, : self.network.num_classes] + parameters["classifier.bias"]

    def _forward(self, layer: Layer) -> None:
        conv, fields = layer.conv, layer.fields()
        weight = self._packed(conv.name, conv.op, self.parameters[f"{conv.name}.weight"])
        if layer.source is None:
            fields |= {"x": self.x, "x_picture": self.x[0].nbytes}
        count, pixels, _ = layer.strips
        shares = np.float32(1) / np.array(pixels, np.float32)
        gathered = self._gathered(layer, count)
        chunks = layer.maps.pictures * (layer.maps.vectors if conv.op == "depthwise" else count)
        self._run(layer.scratch[0], **fields | {"op": FORWARD[conv.op], "chunks": chunks, "weight": weight,
                                                  "gathered": gathered, "shares": shares})
        means, squares = _by_channel(gathered, conv)
        counts = np.tile(np.array(pixels, np.float64), layer.maps.pictures)[:, None]
        layer.count = counts.sum()
        mean = (means * counts).sum(0) / layer.count
        variance = (squares + (means - mean) ** 2 * counts).sum(0) / layer.count
        self._set_norm(layer, mean, variance)

    def _set_norm(self, layer: Layer, mean, variance) -> None:
        """The vectors that go forward, from the batch's statistics or from the running ones."""
        conv, m = layer.conv, layer.conv.out_channels
        gamma, beta, running_mean, running_var = (array.astype(np.float64)
                                                  for array in bn_parameters(conv, self.parameters))
        if layer.by_batch:
            new = new_running_statistics(running_mean, running_var, mean, variance, int(layer.count))
            names = (f"{conv.bn}.running_mean", f"{conv.bn}.running_var")
            self.running |= {name: array.astype(np.float32) for name, array in zip(names, new)}
            self.running[f"{conv.bn}.{TRACKED}"] = self.parameters[f"{conv.bn}.{TRACKED}"] + 1
        else:
            mean, variance = running_mean, running_var
        layer.deviation = np.sqrt(variance + BN_EPS)
        layer.scale = gamma / layer.deviation
        for row, values in ((steps.SCALE, layer.scale), (steps.SHIFT, beta - mean * layer.scale), (steps.MEAN, mean)):
            layer.norm[row, :m] = values

    # --- backward

    def backward(self, dlogits: np.ndarray, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The gradient for the logits, (N, num_classes) -> that for each parameter, by timm's names; float32.

        wanted: names of the parameters that need one, None for all. The pass ends at the first layer that has any of
            them, and has the gradients of all parameters from there on.
        """
        gradients: dict[str, np.ndarray] = {}
        last, maps = self.layers[-1], self.layers[-1].maps
        dpooled = self._backward_classifier(dlogits.astype(np.float32), gradients)
        first = self._first(wanted)
        if first is None:
            return gradients
        last.dy = self._take(maps)
        maps.write(last.dy, global_pool_backward(dpooled, maps.read(self.features), self.network.global_pool))
        gathered = self._gathered(last, 1)
        self._run(0, op=steps.SUMS, chunks=maps.pictures, x_kind=steps.RELU6, height=maps.height, width=maps.width,
                  x_dy=last.dy, gathered=gathered, **last.as_source())
        self._norm_backward(last, gathered, gradients)
        for layer in reversed(self.layers):
            self._backward(layer, gradients, layer is first)
            if layer is first:
                break
        self._free_all()
        return gradients

    def _first(self, wanted: Collection[str] | None) -> Layer | None:
        """The first layer that has a wanted parameter, if one has."""
        return next((layer for layer in self.layers if wanted is None or not {
            f"{layer.conv.name}.weight", f"{layer.conv.bn}.weight", f"{layer.conv.bn}.bias"}.isdisjoint(wanted)), None)

    def _free_all(self) -> None:
        """After a pass that ended before the first layer, some gradients are still there."""
        for layer in self.layers:
            if layer.dy is not None:
                self.free.append(layer.dy)
                layer.dy = None

    def _backward_classifier(self, dlogits, gradients) -> np.ndarray:
        """Returns the gradient for the pooled features, (N, features)."""
        weight, classes = self._classifier_weight(), self.network.num_classes
        dy, dx = self.logits.memory(), self.pooled.memory()
        self.logits.write(dy, np.pad(dlogits, ((0, 0), (0, self.more_classes)))[None, None])
        turned = self._packed("classifier, turned", "pointwise", weight.transpose(1, 0, 2, 3))
        dweight = self._zeros("classifier", self.logits.vectors * self.layout.vector * self.pooled.channels)
        dweight = dweight.view(np.float32)
        self._run(0, op=steps.BACKWARD_POINTWISE, chunks=1, dy=dy, turned=turned,
                  dweight=dweight, x_dy=dx, **self._classifier_fields())
        gradients["classifier.weight"] = self._unpacked("pointwise", weight.shape, dweight)[:classes, :, 0, 0]
        gradients["classifier.bias"] = dlogits.sum(0)
        return self.pooled.read(dx)[0, 0] * self.masks.get("classifier", np.float32(1))

    def _backward(self, layer: Layer, gradients, weights_alone: bool) -> None:
        """The gradient of a layer's weights and, unless `weights_alone`, of what the layer before gave, with its sums.
        """
        conv, source, fields = layer.conv, layer.source, layer.fields()
        weight, floats, parts = self.parameters[f"{conv.name}.weight"], layer.weight_floats(), layer.parts
        dweight = self._zeros(conv.name, parts * floats * FLOAT).view(np.float32).reshape(parts, floats)
        x_size, scratch_size = layer.scratch
        fields |= {"op": BACKWARD[conv.op], "parts": parts, "dy": layer.dy, "dweight": dweight,
                   "dweight_size": dweight[0].nbytes, "scratch_dz": x_size,
                   "chunks": parts * (layer.maps.vectors if conv.op == "depthwise" else 1)}
        if source is None:
            pads = [same_padding(size, conv.kernel, conv.stride) for size in (layer.height, layer.width)]
            x = np.pad(self.x, [(0, 0), *pads, (0, 0)])
            self._run(scratch_size, **fields | {"x": x, "x_picture": x[0].nbytes, "width": x.shape[2]})
        elif weights_alone:
            self._run(scratch_size, **fields)
        else:
            source.dy, gathered = self._take(source.maps), self._gathered(source, fields["strips"])
            turned = weight.transpose(1, 0, 2, 3) if conv.op == "pointwise" else weight[:, :, ::-1, ::-1]
            turned = self._packed(f"{conv.name}, turned", conv.op, turned)
            skip = layer.block_end.dy if layer.block_end else None
            self._run(scratch_size, **fields | {"turned": turned, "x_dy": source.dy,
                                                "skip": skip, "gathered": gathered})
            self._norm_backward(source, gathered, gradients)
        total = dweight[0]
        for part in dweight[1:]:
            total += part
        gradients[f"{conv.name}.weight"] = self._unpacked(conv.op, weight.shape, total)
        # The gradient of a block's output is read by its last layer and, through the shortcut, by its first one.
        for done in ([] if layer.has_shortcut else [layer]) + ([layer.block_end] if layer.block_end else []):
            self.free.append(done.dy)
            done.dy = None

    def _norm_backward(self, layer: Layer, gathered, gradients) -> None:
        """The gradients of a batch norm's parameters, and its vectors that go backward, from the sums."""
        conv, m = layer.conv, layer.conv.out_channels
        dbeta, dcentred = _by_channel(gathered, conv).sum(1)
        gradients[f"{conv.bn}.weight"] = (dcentred / layer.deviation).astype(np.float32)
        gradients[f"{conv.bn}.bias"] = dbeta.astype(np.float32)
        by_statistics = -layer.scale / layer.count if layer.by_batch else np.zeros(m)
        layer.norm[steps.SLOPE, :m] = by_statistics * dcentred / layer.deviation**2
        layer.norm[steps.CONSTANT, :m] = by_statistics * dbeta

    # --- memory and steps

    def _take(self, maps: Maps) -> np.ndarray:
        """Memory for a gradient: the smallest that is free and large enough, or new."""
        size = maps.pictures * maps.picture
        fitting = [i for i, memory in enumerate(self.free) if len(memory) >= size]
        return self.free.pop(min(fitting, key=lambda i: len(self.free[i]))) if fitting else maps.memory()

    def _gathered(self, layer: Layer, strips: int) -> np.ndarray:
        """Memory for two vectors of each block of channels: (slots, blocks, 2, lanes)."""
        slots, lanes = layer.maps.pictures * strips, self.layout.lanes
        size = slots * layer.maps.vectors * steps.MOMENTS * self.layout.vector
        return aligned(size).view(np.float32).reshape(slots, layer.maps.vectors, steps.MOMENTS, lanes)

    def _memory(self, name: str, size: int) -> np.ndarray:
        """Bytes that each pass uses again, as the system would give new ones page by page: at first zeros."""
        if name not in self.kept:
            self.kept[name] = aligned(size)
        return self.kept[name]

    def _zeros(self, name: str, size: int) -> np.ndarray:
        """Memory for the gradient of a layer's weights."""
        memory = self._memory(f"gradient of {name}", size)
        memory[:] = 0
        return memory

    def _packed(self, name: str, op: str, weight: np.ndarray) -> np.ndarray:
        """Packed weights; only their values are written, so that what lies between them stays zero."""
        out = self._memory(name, packed_size(self.layout, op, weight.shape))
        pack_weight(self.layout, op, weight, out)
        return out

    def _unpacked(self, op: str, shape, packed: np.ndarray) -> np.ndarray:
        """A gradient, in panels of whole vectors -> (M, C, K, K), a copy."""
        m, c, k, _ = shape
        if op == "depthwise":
            return packed.reshape(-1, k, k, self.layout.lanes).transpose(0, 3, 1, 2).reshape(-1, 1, k, k)[:m].copy()
        ends = np.cumsum(self.layout.panel_sizes(self.layout.vectors(m))) * self.layout.lanes * c * k * k
        parts = np.split(packed, ends[:-1])
        return np.concatenate([part.reshape(k, k, c, -1).transpose(3, 2, 0, 1) for part in parts])[:m]

    def _classifier_weight(self) -> np.ndarray:
        """As that of a 1x1 convolution, with all its output channels."""
        return np.pad(self.parameters["classifier.weight"], ((0, self.more_classes), (0, 0)))[:, :, None, None]

    def _classifier_fields(self) -> steps.Fields:
        pooled, logits = self.pooled, self.logits
        return {"pictures": 1, "strips": 1, "parts": 1, "x": self.inputs, "x_plane": pooled.plane,
                "x_vectors": pooled.vectors, "z": self.outputs, "z_plane": logits.plane,
                "z_vectors": logits.vectors, "in_channels": pooled.channels, "out_channels": logits.channels,
                "out_height": 1, "out_width": logits.width, **panels(self.layout, logits.channels),
                **panels(self.layout, pooled.channels, "x_")}

    def _run(self, scratch_size: int, **fields) -> None:
        """Do one step, with all threads."""
        self.share([steps.Pass(self.layout, scratch_size, {"zeros": self.zeros, **fields})], self.threads)


def _by_channel(gathered, conv: Conv) -> np.ndarray:
    """(slots, blocks, 2, lanes) -> (2, slots, M), float64."""
    slots = len(gathered)
    values = gathered.astype(np.float64).transpose(2, 0, 1, 3).reshape(steps.MOMENTS, slots, -1)
    return values[..., : conv.out_channels]
