"""Draws result lines of `baton bench --json` as an SVG bar chart: for each line our figure beside
its reference's, and the ratio. Lines of one reference stand together under its name.

    python3 perf/plot.py handoff.jsonl --by block_bytes --title "One handoff over tcp" > chart.svg
    python3 perf/plot.py results.jsonl --only handoff --where mode=transient > chart.svg

The chart brings its own background, light or dark as the reader's system prefers.
"""

import argparse
import itertools
import json
import sys
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, MARGIN = 720, 110, 130, 16
TOP, HEADING, ROW, BAR, BOTTOM = 62, 30, 38, 14, 50

STYLE = """
  .paper { fill: #ffffff; stroke: #d0d7de; } .ours { fill: #0b6e4f; } .reference { fill: #9aa5b1; }
  .text { fill: #1f2933; } .faint { fill: #56616c; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #161b22; stroke: #30363d; } .ours { fill: #3fb68b; } \
.reference { fill: #66717d; }
    .text { fill: #e6edf3; } .faint { fill: #a3adb8; }
  }
"""
# What says little in a chart whose lines mostly agree on it.
UNNAMED = ("segment_bytes", "mode", "layers")


def size_text(value):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if isinstance(value, int) and value >= size and value % size == 0:
            return f"{value // size} {unit}"
    return str(value)


def label_of(line, by):
    parameters = line["parameters"]
    names = by or [name for name in parameters if name not in UNNAMED]
    parts = []
    for name in names:
        if name in parameters:
            value = parameters[name]
            parts.append(size_text(value) if name.endswith("bytes") else str(value))
    return ", ".join(parts) or line["name"]


def figures_of(line):
    """(ours, reference, unit, more is better)."""
    if line["goodput_GBps"] is not None and line["name"] not in ("latency", "pipeline"):
        return line["goodput_GBps"], line["reference_GBps"], "GB/s", True
    return line["median_ms"], line["also"]["reference_median_ms"], "ms", False


def text(x, y, content, size=13, of="text", anchor="start", weight="normal"):
    return (f'<text class="{of}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>')


def bar(x, y, width, of, height=BAR):
    return (f'<rect class="{of}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
            f'height="{height}"/>')


def row_of(line, by, y, scale):
    ours, reference, _, _ = figures_of(line)
    return [text(LEFT - 10, y + BAR + 4, label_of(line, by), anchor="end"),
            bar(LEFT, y, ours * scale, "ours"),
            bar(LEFT, y + BAR + 1, reference * scale, "reference"),
            text(LEFT + ours * scale + 6, y + 11.5, f"{ours:.3g}", 12),
            text(LEFT + reference * scale + 6, y + BAR + 12.5, f"{reference:.3g}", 12, "faint"),
            text(WIDTH - MARGIN, y + BAR + 5, f"{line['ratio']:.2f}", 15, anchor="end",
                 weight="bold")]


def legend(lines, y):
    dates = sorted({line["date"][:10] for line in lines})
    machines = sorted({line["machine"] for line in lines})
    return [bar(LEFT, y, 12, "ours", 12), text(LEFT + 18, y + 11, "Baton", 12),
            bar(LEFT + 76, y, 12, "reference", 12), text(LEFT + 94, y + 11, "the reference", 12),
            text(MARGIN, y + 34, "; ".join(machines) + ", " + ", ".join(dates), 11, "faint")]


def chart(lines, by, title):
    """Raises ValueError where the lines do not go on one scale."""
    units = {figures_of(line)[2:] for line in lines}
    if len(units) != 1:
        raise ValueError("some lines are rates and some are times: choose with --only")
    [(unit, more)] = units
    largest = max(max(figures_of(line)[:2]) for line in lines)
    scale = (WIDTH - LEFT - RIGHT) / largest
    better = "more" if more else "less"
    body = [text(MARGIN, 27, title or lines[0]["name"], 17, weight="bold"),
            text(MARGIN, 47, f"{unit}, {better} is better. At the right: Baton as a share of the "
                 "reference (above 1: Baton is faster)", 12, "faint")]
    y = TOP
    for reference, group in itertools.groupby(lines, key=lambda line: line["reference"]):
        body.append(text(LEFT, y + 18, "beside " + reference, 13, weight="bold"))
        y += HEADING
        for line in group:
            body += row_of(line, by, y, scale)
            y += ROW
    body += legend(lines, y + 6)
    height = y + BOTTOM
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, \'DejaVu Sans\', sans-serif">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *body, "</svg>"]) + "\n"


def condition(words):
    name, equals, value = words.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{words}' is no PARAMETER=VALUE")
    return name, value


def chosen(lines, only, where):
    return [line for line in lines if (not only or line["name"] in only)
            and all(str(line["parameters"].get(name)) == value for name, value in where)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=argparse.FileType(), help="result lines; - for stdin")
    parser.add_argument("--by", action="append", metavar="PARAMETER",
                        help="parameters that label a bar (repeatable)")
    parser.add_argument("--only", action="append", metavar="QUESTION",
                        help="only lines of that name (repeatable)")
    parser.add_argument("--where", action="append", type=condition, default=[],
                        metavar="PARAMETER=VALUE", help="only lines with it (repeatable)")
    parser.add_argument("--title")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.file if line.strip()]
    lines = chosen(lines, options.only, options.where)
    if not lines:
        parser.error(f"{options.file.name} has no such result lines")
    try:
        sys.stdout.write(chart(lines, options.by, options.title))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
