"""Tables on the screen, and the same figures as JSON, with their environment."""
import sys
import time

from ..common.figure_files import write_json
from ..common.paths import check_target
from ..common.text import counted, plain
from .machine import environment, others_running

NOTE = "Figures of one run compare with each other only: another run, load or machine gives others."


def progress(text: str) -> None:
    """Report the progress of a long measurement on stderr; its table is printed at the end."""
    print(text, file=sys.stderr, flush=True)


def is_busy(environment: dict, running=others_running) -> bool | None:
    """Whether other work keeps more than half of the processors busy; None if the system does not tell."""
    others = running()
    if others is None and environment["load_average"]:
        others = environment["load_average"][0]
    return None if others is None else others > 0.5 * environment["threads_available"]


class Report:
    """Prints tables row by row and keeps the rows; `write` writes them to a file."""

    def __init__(self, json_path=None):
        if json_path is not None:
            check_target(json_path, force=True)
        self.json_path = json_path
        self.environment = environment()
        self.tables: dict[str, list[dict]] = {}
        e = self.environment
        print(f"{plain(e['cpu'])}, {counted(e['threads_available'], 'processor')}, {' '.join(e['features'])}; load "
              + (f"{e['load_average'][0]:.2f}" if e["load_average"] else "unknown"))
        self.busy = is_busy(e)
        if self.busy:
            print("WARNING: the machine is busy with other work: times will be too long, and speeds too low")

    @property
    def about(self) -> str:
        """The machine, the day, and whether other work kept it busy, for a picture."""
        state = {True: "busy with other work", False: "not busy", None: "busy or not: unknown"}[self.busy]
        return f"{plain(self.environment['cpu'])}, {time.strftime('%Y-%m-%d')}, {state}"

    def table(self, title: str, columns: dict[str, str], name: str | None = None) -> "Table":
        """Start a table: `columns` maps each key of a row to its format, such as "<20", ">10.2f" or ">7.1%"."""
        rows = self.tables.setdefault(name or title, [])
        return Table(title, columns, rows)

    def write(self) -> None:
        """Print the note, and write the JSON file if one was requested."""
        print(f"\n{NOTE}")
        if self.json_path is not None:
            figures = {"environment": self.environment, "note": NOTE, "tables": self.tables}
            write_json(self.json_path, figures, force=True)
            print(f"wrote {plain(self.json_path)}: the figures")


class Table:
    """Prints rows as they are added, a space between columns; keys without a column go only into the JSON file."""

    def __init__(self, title: str, columns: dict[str, str], rows: list[dict]):
        self.columns, self.rows = columns, rows
        heads = " ".join(f"{key:{self._text(form)}}" for key, form in columns.items())
        print(f"\n{title}\n{heads}")

    def add(self, **row) -> None:
        self.rows.append(row)
        print(" ".join(self._cell(row.get(key), form) for key, form in self.columns.items()))
        sys.stdout.flush()

    def _cell(self, value, form: str) -> str:
        return f"{'' if value is None else value:{self._text(form) if value is None else form}}"

    @staticmethod
    def _text(form: str) -> str:
        """The alignment and width of a format, fit for text: ">10,.2f" -> ">10"."""
        return form[0] + "".join(c for c in form[1:].split(".")[0] if c.isdigit())
