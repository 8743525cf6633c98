"""Output files for the rows of very many photos. They survive whatever ends the job.

Rows are appended to a journal, a file with one line for each, and are with the system as soon as `Output.add` returns:
a killed process loses none. For .csv and .jsonl the journal is the file itself. For .parquet and .h5 it is a hidden
file beside it: the file at the path is made from it in one go when the job ends or is interrupted, and when all is
done the journal is removed. So there is one way to resume: keep the journal's whole lines, check that they are of the
first photos, and append. Rows with an error are computed again then: a new journal, with the new rows in their places,
replaces the old one.

    out.csv      .out.csv.settings.json        what made the rows (`settings.py`); --resume compares it
    out.parquet  .out.parquet.settings.json, .out.parquet.rows.jsonl        until the job is done
"""
from .files import SUFFIXES, Output, begun, check_form, check_output, open_output

__all__ = ["SUFFIXES", "Output", "begun", "check_form", "check_output", "open_output"]
