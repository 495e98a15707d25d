"""Draws result lines of `baton bench --json` as an SVG bar chart: for each line our figure beside its
reference's, and the ratio.

    python3 perf/plot.py handoff.jsonl --by block_bytes --title "One handoff over tcp" > chart.svg
"""

import argparse
import json
import sys
from xml.sax.saxutils import escape

WIDTH, ROW, BAR, LEFT, RIGHT, TOP = 720, 46, 15, 190, 120, 64
OURS, REFERENCE, TEXT, FAINT = "#0b6e4f", "#9aa5b1", "#1f2933", "#7b8794"


def size_text(value):
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if isinstance(value, int) and value >= size and value % size == 0:
            return f"{value // size} {unit}"
    return str(value)


def label_of(line, by):
    parameters = line["parameters"]
    names = by or [name for name in parameters if name not in ("segment_bytes", "mode", "layers")]
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


def text(x, y, content, size=13, color=TEXT, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>')


def bar(x, y, width, color):
    return f'<rect x="{x}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{BAR}" fill="{color}"/>'


def chart(lines, by, title):
    rows = [(label_of(line, by), *figures_of(line), line["ratio"]) for line in lines]
    largest = max(max(row[1], row[2]) for row in rows)
    height = TOP + ROW * len(rows) + 44
    references = sorted({line["reference"] for line in lines})
    better = "more is better" if rows[0][4] else "less is better"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
           f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           text(16, 26, title or lines[0]["name"], 17, weight="bold"),
           text(16, 46, f"{rows[0][3]}, {better}; the figure at the right is the share of the reference",
                12, FAINT)]
    scale = (WIDTH - LEFT - RIGHT) / largest
    for i, (label, ours, reference, _, _, ratio) in enumerate(rows):
        y = TOP + i * ROW
        out += [text(LEFT - 10, y + BAR + 4, label, anchor="end"),
                bar(LEFT, y, ours * scale, OURS), bar(LEFT, y + BAR + 1, reference * scale, REFERENCE),
                text(LEFT + ours * scale + 6, y + 12, f"{ours:.4g}", 12),
                text(LEFT + reference * scale + 6, y + BAR + 13, f"{reference:.4g}", 12, FAINT),
                text(WIDTH - 16, y + BAR + 4, f"{ratio:.2f}", 15, anchor="end", weight="bold")]
    y = TOP + ROW * len(rows) + 4
    out += [f'<rect x="{LEFT}" y="{y}" width="12" height="12" fill="{OURS}"/>',
            text(LEFT + 18, y + 11, "Baton", 12),
            f'<rect x="{LEFT + 80}" y="{y}" width="12" height="12" fill="{REFERENCE}"/>',
            text(LEFT + 98, y + 11, "; ".join(references), 12),
            text(16, y + 32, f'{lines[0]["machine"]}, {lines[0]["date"][:10]}', 11, FAINT), "</svg>"]
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=argparse.FileType(), help="result lines; - for stdin")
    parser.add_argument("--by", action="append", metavar="PARAMETER",
                        help="parameters that label a bar (repeatable)")
    parser.add_argument("--title")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.file if line.strip()]
    if not lines:
        parser.error(f"{options.file.name} has no result lines")
    sys.stdout.write(chart(lines, options.by, options.title))


if __name__ == "__main__":
    main()
