"""HTML for notebooks, without scripts, of a model, an explanation and a fine-tuning.

Jupyter calls `_repr_html_`. Styles are inline, because sites that show stored notebooks remove style sheets.
"""
from html import escape

SIDE = 160  # pixels of each picture
CLASSES = 50  # rows of a table of classes, at most
LEFT, RIGHT = "text-align:left", "text-align:right"


def model_html(model) -> str:
    """The model's `repr`, and a table of its stages at its own input size."""
    from ..network.stages import by_stage

    network = model.architecture
    stages = list(by_stage(network, network.layers(*model.preprocessing.input_size)))
    heads = ("stage", "operator", "kernel", "stride", "output", "parameters", "MACs")
    lines = [(stage.name, stage.operator, stage.kernel or "", stage.stride, _output(stage.layers[-1]),
              f"{stage.params:,}", f"{stage.macs:,}") for stage in stages]
    total = ("whole network", "", "", "", "", f"{network.param_count():,}", f"{sum(stage.macs for stage in stages):,}")
    body = "".join(_row("td", line) for line in lines)
    return (f"<div><div><code>{escape(repr(model))}</code></div><table><thead>{_row('th', heads)}</thead>"
            f"<tbody>{body}</tbody><tfoot>{_row('th', total)}</tfoot></table></div>")


def explanation_html(explanation) -> str:
    """The crop, and for each class its map over the crop, with label and probability."""
    from ..common.text import short
    from . import pictures, wording

    shown = [(explanation.cropped, "the crop", "the crop that the network sees")]
    for one in explanation.classes:
        label = f"{short(one.label)} {wording.percent(one.probability)}"
        shown.append((explanation.heat_map(one.index), label, wording.where(one)))
    figures = "".join(_figure(pictures.data_uri(pictures.shrink(pixels, SIDE)), *words) for pixels, *words in shown)
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'


def finetune_html(result) -> str:
    """The `repr` of a fine-tuning, and a table of its first CLASSES classes."""
    from ..common.text import short

    rows = result.per_class()
    lines = [(short(row["label"]), "", row["train"], row["val"], row["correct"], f"{row['accuracy']:.1%}")
             for row in rows[:CLASSES]]
    if len(rows) > CLASSES:
        lines.append((f"and {len(rows) - CLASSES:,} more classes", "", "", "", "", ""))
    body = "".join(_row("td", line) for line in lines)
    heads = _row("th", ("class", "", "train", "val", "correct", "accuracy"))
    return (f"<div><div><code>{escape(repr(result))}</code></div><table><thead>{heads}</thead><tbody>{body}</tbody>"
            "</table></div>")


def _figure(uri: str, text: str, alt: str) -> str:
    return (f'<figure style="margin:0;width:{SIDE}px"><img src="{uri}" alt="{escape(alt)}" style="width:100%">'
            f'<figcaption style="overflow-wrap:anywhere">{escape(text)}</figcaption></figure>')


def _output(layer) -> str:
    return f"{layer.out_height}×{layer.out_width}×{layer.out_channels}"


def _row(cell: str, values) -> str:
    """A table row: the first two columns are text, the others numbers."""
    cells = (f'<{cell} style="{LEFT if i < 2 else RIGHT}">{escape(str(value))}</{cell}>' for i, value in
             enumerate(values))
    return f"<tr>{''.join(cells)}</tr>"
