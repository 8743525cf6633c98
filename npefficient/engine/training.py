"""Forward and backward passes over batches, by compiled kernels (`training_chunks.py`).

Each convolution and each batch norm is one compiled step over all pictures, and so are packing weights and unpacking
their gradients. The memory that steps point into stays, so they are made once.

Every bit of the result is the same for any number of threads. It is also the same for vectors of any width: each
channel has a lane of its own, and neither strips nor parts depend on the number of lanes.
"""
from collections.abc import Collection, Mapping

import numpy as np

from ..kernels.layout import TRAINING, Layout
from ..kernels.memory import aligned
from ..kernels.packing import packed_size
from ..network.architecture import Architecture
from ..network.backward import global_pool_backward, new_running_statistics
from ..network.folding import bn_parameters
from ..network.parameters import TRACKED
from ..network.reference import global_pool
from . import training_steps as steps
from .engine import Sharing
from .training_layers import Layer, Maps, make_layers, panels, weight_fields

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
        self.kept: dict = {}  # memory and compiled steps that each pass uses again, by what they are for

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
        self._run(self._once("activate", lambda: self._pass(0, {
            "op": steps.ACTIVATE, "chunks": last.maps.pictures, "x_kind": steps.RELU6, "y": self.features,
            "height": last.maps.height, "width": last.maps.width, **last.as_source()})))
        self.before_pool = last.maps.read(self.features)
        pooled = global_pool(self.before_pool, self.network.global_pool)
        self.pooled.write(self.inputs, (pooled * self.masks.get("classifier", np.float32(1)))[None, None])
        weight = self._weight("classifier")
        run = self._once("classifier, forward", lambda: self._classifier_forward(weight))
        run.set(steps.PACK, plain=weight)
        self._run(run)
        return self.logits.read(self.outputs)[0, 0, :, : self.network.num_classes] + parameters["classifier.bias"]

    def _forward(self, layer: Layer) -> None:
        conv, m = layer.conv, layer.conv.out_channels
        weight = self._weight(conv.name)
        for row, values in zip(steps.NORM_OF, bn_parameters(conv, self.parameters), strict=True):
            layer.exact[row, :m] = values
        run = self._once(f"{conv.name}, forward", lambda: self._forward_pass(layer, weight))
        run.set(steps.PACK, plain=weight)
        if layer.source is None:
            run.set(steps.FORWARD_STEM, **self._pictures())
        run.set(steps.FORWARD_NORM, by_batch=layer.by_batch)
        self._run(run)
        if layer.by_batch:
            mean, variance, new_mean, new_variance = layer.exact[
                [steps.RUNNING_MEAN, steps.RUNNING_VARIANCE, steps.BATCH_MEAN, steps.BATCH_VARIANCE], :m]
            count = int(layer.exact[steps.COUNT, 0])
            new = new_running_statistics(mean, variance, new_mean, new_variance, count)
            names = (f"{conv.bn}.running_mean", f"{conv.bn}.running_var")
            self.running |= {name: array.astype(np.float32) for name, array in zip(names, new)}
            self.running[f"{conv.bn}.{TRACKED}"] = self.parameters[f"{conv.bn}.{TRACKED}"] + 1

    def _forward_pass(self, layer: Layer, weight: np.ndarray) -> steps.Pass:
        """Packing of the weights, the convolution, and then its batch norm."""
        op, (count, pixels, _) = layer.conv.op, layer.strips
        gathered = self._gathered(layer, count)
        chunks = layer.maps.pictures * (layer.maps.vectors if op == "depthwise" else count)
        pack = self._pack_step(op, weight)
        convolution = {"op": FORWARD[op], "chunks": chunks, "weight": pack["weight"], "gathered": gathered,
                       "shares": np.float32(1) / np.array(pixels, np.float32)}
        norm = {"op": steps.FORWARD_NORM, "strips": count, "gathered": gathered, "pixels": np.array(pixels, np.float64)}
        return self._pass(layer.scratch[0], pack, layer.fields() | convolution, self._norm_step(layer) | norm)

    def _classifier_forward(self, weight: np.ndarray) -> steps.Pass:
        pack = self._pack_step("pointwise", weight)
        return self._pass(0, pack, {"op": steps.FORWARD_POINTWISE, "chunks": 1, "weight": pack["weight"],
                                    **self._classifier_fields()})

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
        maps.write(last.dy, global_pool_backward(dpooled, self.before_pool, self.network.global_pool))
        run = self._once("sums", self._sums_pass)
        run.set(steps.SUMS, x_dy=last.dy)
        self._run_to_norm(run, last, gradients)
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
        weight = self._weight("classifier")
        turned, dweight = weight.transpose(1, 0, 2, 3), np.empty_like(weight)
        dy, dx = self.logits.memory(), self.pooled.memory()
        self.logits.write(dy, np.pad(dlogits, ((0, 0), (0, self.more_classes)))[None, None])
        run = self._once("classifier, backward", lambda: self._classifier_backward(turned, dweight))
        run.set(steps.PACK, plain=turned)
        run.set(steps.BACKWARD_POINTWISE, dy=dy, x_dy=dx)
        run.set(steps.ADD_UP, plain=dweight)
        self._run(run)
        gradients["classifier.weight"] = dweight[:, :, 0, 0]
        gradients["classifier.bias"] = dlogits.sum(0)
        return self.pooled.read(dx)[0, 0] * self.masks.get("classifier", np.float32(1))

    def _classifier_backward(self, turned: np.ndarray, dweight: np.ndarray) -> steps.Pass:
        size = self.logits.vectors * self.layout.vector * self.pooled.channels
        pack = self._pack_step("pointwise", turned, self.more_classes)
        add_up = self._add_up_step("pointwise", dweight, 1, size)
        return self._pass(0, pack, {
            "op": steps.BACKWARD_POINTWISE, "chunks": 1, "turned": pack["weight"], "dweight": add_up["dweight"],
            "dweight_size": size, **self._classifier_fields()}, add_up)

    def _sums_pass(self) -> steps.Pass:
        """The sums of the gradient that the pool gives, and then the last batch norm."""
        last = self.layers[-1]
        gathered = self._gathered(last, 1)
        sums = {"op": steps.SUMS, "chunks": last.maps.pictures, "x_kind": steps.RELU6, "height": last.maps.height,
                "width": last.maps.width, "gathered": gathered, **last.as_source()}
        return self._pass(0, sums, self._norm_step(last) | {"op": steps.BACKWARD_NORM, "strips": 1,
                                                            "gathered": gathered})

    def _backward(self, layer: Layer, gradients, weights_alone: bool) -> None:
        """The gradient of a layer's weights and, unless `weights_alone`, of what the layer before gave, with its sums.
        """
        conv, source, weight = layer.conv, layer.source, self._weight(layer.conv.name)
        dweight = np.empty_like(weight)
        if source is None or weights_alone:
            run = self._once(f"{conv.name}, weights alone", lambda: self._backward_pass(layer, dweight))
            run.set(BACKWARD[conv.op], dy=layer.dy, **(self._pictures() if source is None else {}))
            run.set(steps.ADD_UP, plain=dweight)
            self._run(run)
        else:
            turned = weight.transpose(1, 0, 2, 3) if conv.op == "pointwise" else weight[:, :, ::-1, ::-1]
            run = self._once(f"{conv.name}, backward", lambda: self._backward_pass(layer, dweight, turned))
            source.dy = self._take(source.maps)
            run.set(steps.PACK, plain=turned)
            run.set(BACKWARD[conv.op], dy=layer.dy, x_dy=source.dy,
                    skip=layer.block_end.dy if layer.block_end else None)
            run.set(steps.ADD_UP, plain=dweight)
            self._run_to_norm(run, source, gradients)
        gradients[f"{conv.name}.weight"] = dweight
        # The gradient of a block's output is read by its last layer and, through the shortcut, by its first one.
        for done in ([] if layer.has_shortcut else [layer]) + ([layer.block_end] if layer.block_end else []):
            self.free.append(done.dy)
            done.dy = None

    def _backward_pass(self, layer: Layer, dweight: np.ndarray, turned: np.ndarray | None = None) -> steps.Pass:
        """The convolution and, with turned weights, its input's gradient and the batch norm of the layer before."""
        op, source, fields, (x_size, scratch_size) = layer.conv.op, layer.source, layer.fields(), layer.scratch
        add_up = self._add_up_step(op, dweight, layer.parts, layer.weight_size())
        chunks = layer.parts * (layer.maps.vectors if op == "depthwise" else 1)
        fields |= {"op": BACKWARD[op], "chunks": chunks, "scratch_dz": x_size,
                   **{name: add_up[name] for name in ("parts", "dweight", "dweight_size")}}
        if turned is None:
            return self._pass(scratch_size, fields, add_up)
        strips = layer.strips[0]
        gathered, pack = self._gathered(source, strips), self._pack_step(op, turned)
        norm = {"op": steps.BACKWARD_NORM, "strips": strips, "gathered": gathered}
        return self._pass(scratch_size, pack, fields | {"turned": pack["weight"], "gathered": gathered},
                          self._norm_step(source) | norm, add_up)

    def _run_to_norm(self, run: steps.Pass, layer: Layer, gradients) -> None:
        """Run steps with a layer's batch norm among them, and take the gradients of its parameters."""
        run.set(steps.BACKWARD_NORM, by_batch=layer.by_batch)
        self._run(run)
        for leaf, row in (("weight", steps.DGAMMA), ("bias", steps.DBETA)):
            gradients[f"{layer.conv.bn}.{leaf}"] = layer.exact[row, : layer.conv.out_channels].astype(np.float32)

    # --- memory and steps

    def _take(self, maps: Maps) -> np.ndarray:
        """Memory for a gradient: the smallest that is free and large enough, or new."""
        size = maps.pictures * maps.picture
        fitting = [i for i, memory in enumerate(self.free) if len(memory) >= size]
        return self.free.pop(min(fitting, key=lambda i: len(self.free[i]))) if fitting else maps.memory()

    def _gathered(self, layer: Layer, strips: int) -> np.ndarray:
        """Memory for two vectors of each strip and block of channels: (N, strips, blocks, 2, lanes)."""
        return aligned(layer.maps.pictures * strips * layer.maps.vectors * steps.MOMENTS * self.layout.vector)

    def _once(self, name: str, make):
        """What `make()` returned the first time: each pass over a batch uses it again."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def _pictures(self) -> steps.Fields:
        return {"x": self.x, "x_picture": self.x[0].nbytes}

    def _weight(self, name: str) -> np.ndarray:
        """The weights of a convolution, or of the classifier as a 1x1 convolution: (M, C, K, K), C-contiguous."""
        weight = np.ascontiguousarray(self.parameters[f"{name}.weight"], np.float32)
        return weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))

    def _pack_step(self, op: str, weight: np.ndarray, more_rows: int = 0) -> steps.Fields:
        """more_rows: input channels of zeros, at the end"""
        fields = weight_fields(self.layout, op, weight)
        m, c, *kernel = weight.shape
        # Only values are written: what lies between them stays zero.
        packed = aligned(packed_size(self.layout, op, (m, c + more_rows, *kernel)))
        return fields | {"op": steps.PACK, "weight": packed, "panel_rows": fields["panel_rows"] + more_rows}

    def _add_up_step(self, op: str, dweight: np.ndarray, parts: int, size: int) -> steps.Fields:
        """The parts of a gradient, `size` bytes each, become `dweight`."""
        return weight_fields(self.layout, op, dweight) | {
            "op": steps.ADD_UP, "half": 0, "parts": parts, "dweight": aligned(parts * size), "dweight_size": size}

    def _classifier_fields(self) -> steps.Fields:
        pooled, logits = self.pooled, self.logits
        return {"pictures": 1, "strips": 1, "parts": 1, "x": self.inputs, "x_plane": pooled.plane,
                "x_vectors": pooled.vectors, "z": self.outputs, "z_plane": logits.plane,
                "z_vectors": logits.vectors, "in_channels": pooled.channels, "out_channels": logits.channels,
                "out_height": 1, "out_width": logits.width, **panels(self.layout, logits.channels),
                **panels(self.layout, pooled.channels, "x_")}

    def _norm_step(self, layer: Layer) -> steps.Fields:
        return {"pictures": layer.maps.pictures, "chunks": layer.maps.vectors, **layer.norm_fields()}

    def _pass(self, scratch_size: int, *fields: steps.Fields) -> steps.Pass:
        return steps.Pass(self.layout, scratch_size, [{"zeros": self.zeros, **one} for one in fields])

    def _run(self, run: steps.Pass) -> None:
        """Do these steps, with all threads."""
        run.begin()
        self.share([run], self.threads)
