"""Files for the rows of very many photos, that survive whatever ends the job.

Rows are appended to a journal, a file with one line for each, and are with the system as soon as `Output.add` returns:
a killed process loses none. For .csv and .jsonl the journal is the file itself. For .parquet and .h5 it is a hidden
file beside it, from which the file at the path is made in one go when the job ends or is interrupted, and which goes
when all is done. So there is one way to go on after an interruption: keep the journal's whole lines, see that they are
the first of the photos, and append. Rows that say an error are made anew then: the journal is written once more, with
the new rows in their places, and takes the place of the old one.

    out.csv      .out.csv.settings.json        what made the rows (`settings.py`); --resume compares it
    out.parquet  .out.parquet.settings.json, .out.parquet.rows.jsonl        until the job is done
"""
from .files import SUFFIXES, Output, begun, check_form, check_output, open_output

__all__ = ["SUFFIXES", "Output", "begun", "check_form", "check_output", "open_output"]
