"""Tables for people, on a terminal."""


def print_table(columns, rows):
    """Rows of texts below their headings; the first column to the left, the others to the right."""
    widths = [max(6, *(len(word) for word in column.split())) for column in columns]
    widths = [max(width, *(len(row[i]) for row in rows)) for i, width in enumerate(widths)]
    print_heading(columns, widths)
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def print_heading(columns, widths):
    """Headings over as many lines as they need in columns of these widths."""
    stacks = []
    for column, width in zip(columns, widths):
        lines = [""]
        for word in column.split():
            joined = f"{lines[-1]} {word}".strip()
            lines = lines[:-1] + [joined] if len(joined) <= width else lines + [word]
        stacks.append(lines)
    height = max(map(len, stacks))
    for row in range(height):
        cells = [stack[row - height + len(stack)] if row >= height - len(stack) else ""
                 for stack in stacks]
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(cells, widths))).rstrip())
    print("  ".join("-" * width for width in widths))
