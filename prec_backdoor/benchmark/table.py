"""benchmark.json's rows as a table for the terminal."""

COLUMNS = {  # heading: how a row is shown there
    "task": lambda row: row["task"],
    "system": lambda row: row["system"],
    "items": lambda row: f"{row['items']:,}",
    "history": lambda row: _maybe(row, "max_length", "{}"),
    "batch": lambda row: _maybe(row, "sequences", "{:,}"),
    "model": lambda row: _model(row),
    "per second": lambda row: _rate(row),
    "least..most": lambda row: f"{row['least']:,.0f}..{row['most']:,.0f}" if "least" in row else "",
    "ours x": lambda row: _maybe(row, "ours_times", "{:.2f}"),
    "step ms": lambda row: _maybe(row, "step_ms", "{:,.1f}"),
    "peak MB": lambda row: _maybe(row, "peak_rss_mb", "{:,.0f}"),
    "GEMM": lambda row: _maybe(row, "gemm_fraction", "{:.1%}"),
    "peak": lambda row: _maybe(row, "peak_fraction", "{:.2%}"),
    "memory": lambda row: _maybe(row, "bandwidth_fraction", "{:.1%}"),
    "compile s": lambda row: _maybe(row, "compile_seconds", "{:.1f}"),
    "loss": lambda row: f"{row['loss_first']:.4f} > {row['loss']:.4f}" if "loss" in row else "",
    "after": lambda row: _maybe(row, "loss_after_sequences", "{:,}"),
}
LEFT = ("task", "system")


def table(rows: list[dict]) -> str:
    """Right-aligned columns; those that no row fills are left out."""
    cells = {heading: [show(row) for row in rows] for heading, show in COLUMNS.items()}
    columns = []
    for heading, values in cells.items():
        if any(values):
            width = max(map(len, (heading, *values)))
            columns.append([value.ljust(width) if heading in LEFT else value.rjust(width) for value in (heading, *values)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _maybe(row: dict, name: str, form: str) -> str:
    return form.format(row[name]) if name in row else ""


def _model(row: dict) -> str:
    """Width, layers and type; nothing for the released sizes."""
    if row.get("embed_dim", 64) == 64 and row.get("dtype", "float32") == "float32":
        return f"{row['models']} models" if row.get("models", 1) > 1 else ""
    return f"{row['embed_dim']} x {row['layers']} {row['dtype']}"


def _rate(row: dict) -> str:
    if "seconds" in row:
        return f"{row['seconds']:.1f} s {row['cache']}"
    name, unit = ("positions_per_second", "pos") if "positions_per_second" in row else ("users_per_second", "users")
    return f"{row[name]:,.0f} {unit}"
