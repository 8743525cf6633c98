"""Which of timm's names exist here.

- **Same**: `list_models`, `list_pretrained`, `is_model`, `is_model_pretrained`, `get_pretrained_cfg`,
  `resolve_data_config`, `resolve_model_data_config`, `create_transform(input_size, interpolation, mean, std, crop_pct,
  crop_mode)`, `create_model(model_name, pretrained, checkpoint_path, num_classes, in_chans, global_pool,
  features_only, out_indices)`; `model.forward`, `model.forward_features`, `model.forward_head`,
  `model.reset_classifier`, `model.num_classes`, `model.num_features`, `model.head_hidden_size`, `model.in_chans`,
  `model.feature_info`, `model.pretrained_cfg`, `model.default_cfg`.
- **Different**: arrays are NumPy arrays in NHWC; `model.forward_intermediates` can also return NCHW.
  `model.state_dict` returns copies and `model.load_state_dict` is always strict. `model.classifier` and
  `model.get_classifier` have a weight and a bias, and `model.set_classifier` replaces them; `model.global_pool` is a
  string. `create_model(pretrained_cfg, pretrained_cfg_overlay)` take the tag, and a file and preprocessing settings.
- **No effect**: training options in `create_model(drop_rate, drop_path_rate, bn_momentum, scriptable, exportable,
  no_jit)` and in `create_transform(scale, ratio, hflip, color_jitter, auto_augment, re_prob)` and the like;
  `model.eval`, `model.cpu`, `model.float`, `model.compile`, `model.set_grad_checkpointing`. `model.to`, `model.train`
  and `model.requires_grad_` have no effect if nothing would change, and raise an error otherwise.
- **Absent**, with an error that says what to do instead: `create_model(cache_dir, img_size, act_layer, norm_layer)`,
  `create_transform(tf_preprocessing, normalize, use_prefetcher, separate)`, `is_training`; `model.parameters`,
  `model.named_modules`, `model.register_forward_hook`, `model.blocks`, `model.conv_stem`, `model.cuda`, `model.half`,
  `model.zero_grad`, `model.prune_intermediate_layers` and everything else that torch's modules have.

`tests/model/test_timm_names.py` compares this page and the tables below with timm's own signatures, so that no name is
missing.
"""
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..common.text import shown
from ..errors import ArgumentError, MissingError
from ..network.architecture import BN_EPS, PADDING, Architecture

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

_LAYERS = "model.activations(x, ['blocks.2']) returns the output of any layer, model.state_dict() the weights by name"
_WEIGHTS = "model.state_dict() returns every array by name, model.architecture.param_count() the number of parameters"
_TRAINING = "a model only infers; npefficient.train trains a network, npefficient.loss_and_gradients gives gradients"
_FLOAT32 = "everything runs in float32 or int8 on the CPU: create_model takes num_threads and precision"
_STATE = "only model.state_dict() and model.load_state_dict(arrays) are available"
_SET = "set_classifier and reset_classifier replace the last layer, load_state_dict all weights"
_FIXED = "the layers are fixed, as in the official weights; omit it"
_INTERNAL = "it is internal to timm; omit it"
_PIXELS = "npefficient.images.image.preview(photo, preprocessing).cropped has the uint8 pixels before normalisation"
_TOKENS = "it is for networks that take patches; omit it"


def _each(*groups: tuple[str, str]) -> dict[str, str]:
    """(remedy, names) -> name -> remedy."""
    return {name: remedy for remedy, names in groups for name in names.split()}


# --- arguments: those without effect, those with one allowed value, and what to do instead of the others -------------

NO_EFFECT = {
    "create_model": frozenset("drop_rate drop_path_rate bn_momentum scriptable exportable no_jit".split()),
    "create_transform": frozenset(
        "no_aug train_crop_mode scale ratio hflip vflip color_jitter color_jitter_prob grayscale_prob "
        "gaussian_blur_prob auto_augment re_prob re_mode re_count re_num_splits patch_size max_seq_len "
        "patchify_channels_last patchify_flatten".split()),
}
AS_IT_IS: dict[str, dict[str, Any]] = {
    "create_model": {"bn_eps": BN_EPS, "pad_type": PADDING, "output_stride": 32, "device": "cpu", "dtype": "float32",
                     "pruned": False},
    "create_transform": {"crop_border_pixels": 0, "tf_preprocessing": False, "use_prefetcher": False,
                         "normalize": True, "separate": False, "naflex": False, "patchify": False},
}
INSTEAD = {
    "create_model": _each(
        ("the environment variable NPEFFICIENT_CACHE sets the directory for downloaded weights", "cache_dir"),
        ("a network takes pictures of any size; pretrained_cfg_overlay={'input_size': (3, 64, 64)} sets the size that "
         "model.transform makes", "img_size"),
        ("features_only models return a list; omit it", "feature_cls"),
        (_FIXED, "bn_eps pad_type output_stride pruned block_args num_features stem_size stem_kernel_size fix_stem "
                 "act_layer norm_layer aa_layer se_layer round_chs_fn"),
        (_FLOAT32, "device dtype"),
        (_INTERNAL, "pretrained_strict pretrained_filter_fn pretrained_model_args kwargs_filter model_cfg "
                    "feature_cfg")),
    "create_transform": _each(
        ("crop the photo first, with image.crop", "crop_border_pixels"),
        ("npefficient.images.tensorflow.tf_transform prepares photos as TensorFlow does", "tf_preprocessing"),
        (_PIXELS, "use_prefetcher normalize"),
        (_TRAINING, "separate"),
        (_TOKENS, "naflex patchify")),
}

# --- attributes that a model does not have ---------------------------------------------------------------------------

ABSENT = _each(
    (_LAYERS, "as_sequential blocks bn1 bn2 conv_head conv_stem children modules named_children named_modules "
              "get_submodule set_submodule add_module register_module apply register_forward_hook "
              "register_forward_pre_hook feature_hooks"),
    (_WEIGHTS, "parameters named_parameters buffers named_buffers get_parameter get_buffer register_parameter "
               "register_buffer"),
    (_TRAINING, "drop_rate grad_checkpointing group_matcher zero_grad register_backward_hook "
                "register_full_backward_hook register_full_backward_pre_hook"),
    (_FLOAT32, "cuda xpu ipu mtia half double bfloat16 type to_empty"),
    (_STATE, "get_extra_state set_extra_state register_state_dict_pre_hook register_state_dict_post_hook "
             "register_load_state_dict_pre_hook register_load_state_dict_post_hook"),
    ("create_model(features_only=True, out_indices=..) runs up to the last map requested", "prune_intermediate_layers"),
    ("model.feature_info lists the layers of the feature maps", "stage_ends"),
    ("a forked process shares the model's memory, and a pickled model reads its file again", "share_memory"),
    ("repr(model) and model.architecture describe the model", "extra_repr pretrained_model_args"),
    ("it is internal to torch", "T_destination call_super_init dump_patches"),
)
ABSENT_OF_FEATURES = ABSENT | _each(
    ("use features.model, the whole model", "state_dict load_state_dict"))


def check_options(function: str, given: dict) -> None:
    """Raise ArgumentError for an argument of timm's `function` that is not supported here and not without effect."""
    no_effect, as_it_is, instead = NO_EFFECT[function], AS_IT_IS[function], INSTEAD[function]
    for name, value in given.items():
        if name in no_effect or name in instead and (value is None or name in as_it_is and _is(value, as_it_is[name])):
            continue
        if name in instead:
            rule = f" (only {as_it_is[name]!r})" if name in as_it_is else ""
            raise ArgumentError(f"{function}({name}={shown(value)}) is not supported{rule}: {instead[name]}")
        raise ArgumentError(f"{function} has no argument {name!r}, neither here nor in timm: check the spelling")


def _is(value: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return isinstance(value, str) and value == expected or is_as_it_is(value)
    return not hasattr(value, "__len__") and bool(value == expected)  # comparing an array would give an array


def is_as_it_is(value: Any) -> bool:
    """True for a device, dtype or memory format that changes nothing, by the names of torch or NumPy."""
    if isinstance(value, numbers.Number):
        return False
    name = str(getattr(value, "__name__", value)).removeprefix("torch.").removesuffix(":0")
    return name in ("cpu", "float32", "channels_last", "contiguous_format", "preserve_format")


class TimmModule:
    """Methods of torch modules that scripts for timm call, such as `eval` and `to`, and errors for those we lack.

    Methods that change nothing return the model itself, as in torch. An attribute that timm's models have and ours lack
    raises MissingError, which says what to do instead.
    """

    absent = ABSENT
    architecture: Architecture
    pretrained_cfg: dict
    __call__: Callable[..., Any]

    @property
    def training(self) -> bool:
        """False."""
        return False

    def forward(self, x: "np.ndarray") -> Any:
        """Call the model."""
        return self(x)

    @property
    def default_cfg(self) -> dict:
        """`pretrained_cfg`, by its old name."""
        return self.pretrained_cfg

    @property
    def in_chans(self) -> int:
        """The number of input channels."""
        return self.architecture.in_chans

    def eval(self) -> "Self":
        """Return the model itself, which is always in evaluation mode."""
        return self

    def train(self, mode: bool = True) -> "Self":
        """Return the model itself for `mode` False; raises ArgumentError for True."""
        if mode:
            raise ArgumentError(f"train(): a model is always in evaluation mode; {_TRAINING}")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> "Self":
        """Return the model itself for False; raises ArgumentError for True."""
        if requires_grad:
            raise ArgumentError(f"requires_grad_(): {_TRAINING}")
        return self

    def to(self, *wanted: Any, **options: Any) -> "Self":
        """Return the model itself for "cpu", float32 and any memory format; raises ArgumentError for others."""
        for value in (*wanted, *options.values()):
            if not (value is None or isinstance(value, bool) or is_as_it_is(value)):
                raise ArgumentError(f"to({shown(value)}): {_FLOAT32}")
        return self

    def cpu(self) -> "Self":
        """Return the model itself, which is already on the CPU."""
        return self

    def float(self) -> "Self":
        """Return the model itself: inputs and outputs are float32, also with precision "int8"."""
        return self

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Do nothing: a model is already compiled."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Do nothing: a model only infers."""

    if not TYPE_CHECKING:  # or a type checker would accept any attribute
        def __getattr__(self, name):  # called only for attributes that do not exist
            if name in self.absent:
                raise MissingError(f"{type(self).__name__}.{name}: {self.absent[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.absent or isinstance(getattr(type(self), name, None), property):
            raise MissingError(f"{type(self).__name__}.{name} can't be set: {self.absent.get(name, _SET)}")
        super().__setattr__(name, value)
