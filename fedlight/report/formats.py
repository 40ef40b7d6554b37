"""A table as Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import html
import re
from itertools import groupby

from fedlight.report.tables import Entry, Table

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "−": "$-$",
    "<": r"\textless{}", ">": r"\textgreater{}", "·": r"$\cdot$",
}  # fmt: skip
"""Characters that LaTeX wants written otherwise."""


def to_markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown, title above, note below."""
    heads = [f"{name}, {group}" if group else name for group, name in table.heads]
    lines = [f"**{table.title}**", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    lines += [_line([_markdown(entry) for entry in row]) for row in table.rows]
    return "\n".join([*lines, "", table.note.replace("*", r"\*"), ""])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(entry: Entry) -> str:
    text = entry.text.replace("|", r"\|")
    text = f"**{text}**" if entry.is_best else text
    return text + (r"\*" if entry.is_marked else "") + (f" ({entry.count})" if entry.count else "")


def to_latex(table: Table) -> str:
    """Return a table as LaTeX for the package booktabs."""
    names = " & ".join(_escape(name) for _, name in table.heads)
    body = [" & ".join(_latex(entry) for entry in row) + r" \\" for row in table.rows]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escape(table.title)}. {_escape(table.note)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(table.heads) - 1)}}}",
        r"    \toprule",
        *(f"    {line}" for line in _latex_groups(table)),
        rf"    {names} \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _latex_groups(table: Table) -> list[str]:
    cells, rules, column = [], [], 1
    for group, width in _groups(table):
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_escape(group)}}}" if group else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{column}-{column + width - 1}}}"] if group else []
        column += width
    return [" & ".join(cells) + r" \\", " ".join(rules)] if rules else []


def _groups(table: Table) -> list[tuple[str, int]]:
    """Return the heads' groups with the number of columns of each."""
    return [(group, len(list(heads))) for group, heads in groupby(group for group, _ in table.heads)]


def _latex(entry: Entry) -> str:
    text = rf"\textbf{{{_escape(entry.text)}}}" if entry.is_best else _escape(entry.text)
    return text + ("$^{*}$" if entry.is_marked else "") + (f" ({entry.count})" if entry.count else "")


def _escape(text: str) -> str:
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match.group()], text)


def to_html(table: Table, swatches: dict[str, str] | None = None) -> str:
    """Return a table as an HTML ``figure``, heads in two rows where columns have groups.

    Args:
        table: the table.
        swatches: label to CSS style, for the swatch before a variant's name.
    """
    groups = ""
    if any(group for group, _ in table.heads):
        cells = "".join(
            f'<th colspan="{width}"{" class=group" if group else ""}>{html.escape(group)}</th>'
            for group, width in _groups(table)
        )
        groups = f"<tr>{cells}</tr>"
    names = "".join(f'<th scope="col">{html.escape(name)}</th>' for _, name in table.heads)
    rows = "".join(_html_row(row, swatches or {}) for row in table.rows)
    return (
        f'<figure class="table"><h3>{html.escape(table.title)}</h3><div class="scroll"><table>'
        f"<thead>{groups}<tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<figcaption>{html.escape(table.note)}</figcaption></figure>"
    )


def _html_row(row: tuple[Entry, ...], swatches: dict[str, str]) -> str:
    label = row[0].text
    swatch = f'<span class="swatch" style="{swatches[label]}"></span>' if label in swatches else ""
    cells = "".join(f"<td>{_html(entry)}</td>" for entry in row[1:])
    return f'<tr><th scope="row">{swatch}{html.escape(label)}</th>{cells}</tr>'


def _html(entry: Entry) -> str:
    text = html.escape(entry.text)
    text = f"<strong>{text}</strong>" if entry.is_best else text
    mark = '<sup title="significant">*</sup>' if entry.is_marked else ""
    return text + mark + (f' <small class="count">{entry.count}</small>' if entry.count else "")
