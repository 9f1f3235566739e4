"""What is wrong with specs: every problem at its place, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

from specrun.errors import Place, SpecrunError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `subject` is `kind/name`, `field` the path of the field, both possibly empty."""

    place: Place
    message: str
    code: str
    subject: str = ""
    field: str = ""
    note: str = ""
    """What was expected, or a suggestion; stands under the caret."""

    def render(self) -> str:
        """The message, and below it the line with a caret."""
        field = f"{self.field}: " if self.field else ""
        head = "  ".join(part for part in (str(self.place), self.subject, f"{field}{self.message}") if part)
        if not self.place.source:
            return f"{head}  [{self.code}]"
        caret = " " * (self.place.column - 1) + "^" + "~" * (self.place.width - 1)
        note = f" {self.note}" if self.note else ""
        return f"{head}\n{self.place.line:>5} | {self.place.source}\n      | {caret}{note}  [{self.code}]"

    def document(self) -> dict[str, object]:
        """For `--output json`."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "code": self.code,
            "subject": self.subject,
            "field": self.field,
            "message": self.message,
            "note": self.note,
        }


class SpecProblems(SpecrunError):
    """The specs can't be used; `problems` has at least one."""

    code = "bad-spec"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda one: (one.place.file, one.place.line, one.place.column))
        super().__init__("\n".join(problem.render() for problem in self.problems))

    def summary(self) -> str:
        """The closing line."""
        count = len(self.problems)
        return f"{count} error{'s' if count != 1 else ''}; nothing was changed."


def dotted(path: tuple[str | int, ...]) -> str:
    """`spec.env.A` or `spec.command[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
