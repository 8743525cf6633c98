"""Checkpoints under the names of another project."""


def theirs(tensors):
    """The tensors under EfficientNet-PyTorch's names, which number the blocks across all stages."""
    blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in tensors if name.startswith("blocks.")))
    words = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
             "conv_pwl": "_project_conv", "bn3": "_bn2"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    top = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    made = {}
    for name, array in tensors.items():
        *module, leaf = name.split(".")
        if module[0] == "blocks":
            n = blocks.index(".".join(module[:3]))
            made[f"_blocks.{n}.{(words if n else first)[module[3]]}.{leaf}"] = array
        else:
            made[f"{top[module[0]]}.{leaf}"] = array
    return made
